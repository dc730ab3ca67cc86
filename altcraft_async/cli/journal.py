"""The commands of ``journal``: what a journal says of its run, for people and as files."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from rich.console import Console
from rich.text import Text

from altcraft_async import ConfigurationError, JournalError, OutcomeState
from altcraft_async.cli.advice import next_steps
from altcraft_async.cli.display import stderr_console, told_reasons, utc, wrapped
from altcraft_async.cli.exits import ExitCode
from altcraft_async.cli.inputs import Input, named_in
from altcraft_async.cli.reasons import Reasons
from altcraft_async.cli.results import (
    COLUMNS,
    IMPORT_COLUMNS,
    RecordFile,
    refuse_clashes,
    refuse_other_form,
    results_file,
)
from altcraft_async.cli.talk import shell, tidy
from altcraft_async.ingest import FIELDS
from altcraft_async.ingest.table import csv_record
from altcraft_async.journal import CommandNote, JournalReader, forget
from altcraft_async.report.reasons import Place
from altcraft_async.shards.plan import name_of, shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from altcraft_async import LineStatusUpdate, Outcome
    from altcraft_async.cli.imports import What
    from altcraft_async.ingest import KeptRow, UpdateReader
    from altcraft_async.journal import JournalSummary

__all__ = ["Extract", "export", "failed", "forget_order", "show"]

_DONE = "Next: nothing is left to do; without the journal the same input would be sent anew\n"
_IN_USE = "Next: a run writes the journal now; wait until that has ended\n"
_FAILED = tuple(state for state in OutcomeState if not state.ok)


def show(path: str, *, as_json: bool) -> int:
    """Say on standard output what became of the run."""
    with JournalReader(path) as journal:
        summary = journal.summary()
        reasons = Reasons()
        for outcome in journal.outcomes(*_FAILED):
            reasons.add(outcome, Place(outcome.index))
    if as_json:
        sys.stdout.write(json.dumps(_as_json(summary, reasons)) + "\n")
    else:
        facts = _facts(summary)
        width = max(map(len, facts))
        console = Console(highlight=False)
        console.soft_wrap = not console.is_terminal
        for name, said in facts.items():
            console.print(Text.assemble((f"{name:<{width}}", "dim"), f"  {said}"))
        if len(reasons):
            console.print(Text("why rows failed", style="dim"))
        for text in told_reasons(reasons):
            console.print(wrapped(console, text))
        sys.stdout.write(_IN_USE if summary.in_use else "".join(_steps(summary, path)) or _DONE)
    sys.stdout.flush()
    return ExitCode.OK


def _steps(summary: JournalSummary, path: str) -> Iterator[str]:
    """Say how to go on: with the very command that made the run, where the journal has it."""
    shard = shard_of(path)
    if shard is not None:
        yield from _steps_of_shard(summary, *shard)
        return
    note = summary.command
    if note is None:
        command = ["altcraft-async", *_command_of(summary.method), "INPUT", *_options_of(summary), "--journal", path]
        note = CommandNote(command, ["INPUT"], str(Path.cwd()))
        if not summary.finished and not summary.in_use:
            yield "No command made this journal: run the program again that did, or go on with a command.\n"
    there = "" if note.directory == str(Path.cwd()) else f"{shell(['cd', note.directory])} && "
    for said, words in next_steps(summary, note.words, note.source):
        yield f"Next: {said}: {there}{shell(words)}\n"


def _steps_of_shard(summary: JournalSummary, directory: str, number: int) -> Iterator[str]:
    command = ["altcraft-async", "shards", "run", directory, "--shard", str(number)]
    if not summary.finished:
        yield f"Next: to finish the shard: {shell(command)}\n"
    elif summary.failed:
        yield f"Next: the rows that failed: {shell([str(Path(directory) / name_of(number, 'failed.parquet'))])}\n"
        if summary.failed > summary.counts[OutcomeState.INVALID]:
            yield f"Next: to send again what failed: {shell([*command, '--retry-failed'])}\n"


def _as_json(summary: JournalSummary, reasons: Reasons) -> dict[str, object]:
    return {
        "path": summary.path,
        "run_id": summary.run_id,
        "target": summary.target,
        "started": utc(summary.created),
        "last_written": utc(summary.written),
        "in_use": summary.in_use,
        "rows": summary.length,
        "recorded": summary.recorded,
        "finished": summary.finished,
        "states": {str(state): count for state, count in summary.counts.items() if count},
        "reasons": reasons.records(),
        "to_be_sent_again": summary.reopened,
        "not_recorded": _not_recorded(summary),
        "size": summary.size,
        "bytes_per_line": _bytes_per_line(summary),
    }


def _facts(summary: JournalSummary) -> dict[str, str]:
    missing = _not_recorded(summary)
    facts = {
        "run": summary.run_id,
        "target": summary.target,
        "started": _moment(summary.created),
        "last written": f"{_moment(summary.written)} ({_span(time.time() - summary.written)} ago)",
        "in use": "yes, a run writes it" if summary.in_use else "no",
        "rows of the input": "not read to its end yet" if summary.length is None else f"{summary.length:,}",
        "finished": "yes" if summary.finished else "no",
        "recorded": f"{summary.recorded:,}",
        **{f"  {state}": f"{count:,}" for state, count in summary.counts.items() if count},
    }
    if summary.reopened:
        facts["to be sent again"] = f"{summary.reopened:,}"
    if missing:
        facts["not recorded yet"] = f"{missing:,}"
    facts["size"] = f"{summary.size:,} bytes, {_bytes_per_line(summary):.0f} a line"
    return facts


def _not_recorded(summary: JournalSummary) -> int | None:
    return None if summary.length is None else max(0, summary.length - summary.recorded - summary.reopened)


def _bytes_per_line(summary: JournalSummary) -> float:
    return round(summary.size / max(1, summary.recorded + summary.reopened), 1)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


@attrs.frozen(kw_only=True)
class Extract:
    """What ``journal failed`` or ``journal export`` was asked for; the fields are their options."""

    path: str
    input: Input | None
    output_format: str | None
    output: str

    @classmethod
    def of(cls, path: str, output: str, source: str | None, options: dict[str, Any]) -> Extract:
        """Take the options of the command; those of an input go with one."""
        given = Input.of(source or "-", options)
        if source is None and (given.columns or given.constants or given.statuses):
            msg = "--map, --set and --status say how to read the input; give that with --input FILE"
            raise ConfigurationError(msg)
        return cls(path=path, output=output, input=given if source else None, output_format=given.input_format)

    def open_input(self, stack: contextlib.ExitStack, summary: JournalSummary) -> UpdateReader | None:
        """Open the input where one was given, as the run of the journal read it."""
        given = self.input
        source = None if given is None else given.source
        refuse_clashes(**{"input": source, "the journal": self.path, "--output": self.output})
        if given is None:
            return None
        what = IMPORTED.get(summary.method)
        if what is None:
            return stack.enter_context(given.open())
        from altcraft_async.cli.imports import ValuesInput  # noqa: PLC0415 - only for journals of imports

        return stack.enter_context(ValuesInput.from_input(given, what).open())


IMPORTED: Mapping[str, What] = {
    "market/orders/import": "orders",
    "market/products/import": "products",
    "market/sku/import": "skus",
}


def failed(asked: Extract) -> int:
    """Write the rows that failed as an input for the same command: as they stood in the input, or else their ids."""
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(JournalReader(asked.path))
        summary = journal.summary()
        reader = asked.open_input(stack, summary)
        refuse_other_form("-o", asked.output)
        if reader is not None:
            reader.keep_for(asked.output)
        output = stack.enter_context(RecordFile(asked.output, at_end=True))
        output.start()
        written = 0
        if reader is not None:
            output.write(reader.header)
            for row, outcome in _joined(journal, reader):
                if row is not None and outcome is not None and not outcome.ok:
                    output.write(row.raw)
                    written += 1
        else:
            _refuse_import(summary)
            as_json = (asked.output_format or _format_of(asked.output)) == "jsonl"
            output.write(b"" if as_json else csv_record(FIELDS))
            for outcome in journal.outcomes(*_FAILED):
                if outcome.update is not None:
                    output.write(_ids(outcome.update, as_json=as_json))
                    written += 1
        without_ids = summary.failed - written if reader is None else 0
        return _end(output, [f"failed rows written: {written:,}", *_left_out(summary, without_ids)])


def _command_of(method: str) -> list[str]:
    """Return the words of the command that makes runs of a method."""
    return [IMPORTED[method], "import"] if method in IMPORTED else ["sync"]


def _options_of(summary: JournalSummary) -> list[str]:
    """Return the options that an import must have had: its batches hang on them."""
    what, facts = IMPORTED.get(summary.method), summary.facts
    if what is None:
        return []
    triggers = ["--skip-triggers" if facts.get("skip_triggers") else "--triggers"] if what == "orders" else []
    return [
        *triggers,
        *("--batch-size", str(facts.get("batch_size"))),
        *("--batch-bytes", str(facts.get("batch_bytes"))),
    ]


def _refuse_import(summary: JournalSummary) -> None:
    """Raise for the journal of an import without its input: it does not keep what rows say."""
    if summary.method in IMPORTED:
        msg = (
            f"the journal {summary.path} records a run of {summary.method}, and has only the ids of its rows; "
            "give --input FILE, the input of that run"
        )
        raise ConfigurationError(msg)


def _format_of(output: str) -> str:
    return "jsonl" if output.lower().endswith((".jsonl", ".ndjson", ".json")) else "csv"


def _ids(update: LineStatusUpdate, *, as_json: bool) -> bytes:
    values = {field: getattr(update, field) for field in FIELDS}
    return json.dumps(values, ensure_ascii=False).encode() + b"\n" if as_json else csv_record(list(values.values()))


def _left_out(summary: JournalSummary, without_ids: int) -> Iterator[str]:
    if without_ids > 0:
        said = "invalid rows, or forgotten ones, whose ids the journal does not have"
        yield f"{said}: {without_ids:,}; give --input FILE to get them too"
    if not summary.finished:
        yield "the run is not finished: rows without an outcome are sent when it is continued"
    if summary.failed - summary.counts[OutcomeState.INVALID]:
        command = " ".join(_command_of(summary.method))
        yield f"to send failed rows again as they are, {command} with --retry-failed keeps their ids and order"


def export(asked: Extract) -> int:
    """Write every recorded outcome, like the results file of the run's command."""
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(JournalReader(asked.path))
        summary = journal.summary()
        reader = asked.open_input(stack, summary)
        columns = IMPORT_COLUMNS if summary.method in IMPORTED else COLUMNS
        refuse_other_form("-o", asked.output, parquet=True)
        output = stack.enter_context(results_file(asked.output, columns, at_end=True))
        output.start()
        written = 0
        pairs = ((None, one) for one in journal.outcomes()) if reader is None else _joined(journal, reader)
        for row, outcome in pairs:
            if outcome is not None:
                output.add(outcome, None if row is None else row.line)
                written += 1
            if output.problem is not None:
                break
        return _end(output, [f"outcomes written: {written:,}"])


def forget_order(path: str, order: str) -> int:
    """Delete what a journal says of an order."""
    count = forget(path, order)
    rows = "1 failed row was" if count == 1 else f"{count:,} failed rows were"
    stderr_console().print(Text(f"{rows} about this order; what the journal said of it is deleted."))
    return ExitCode.OK


def _joined(journal: JournalReader, reader: UpdateReader) -> Iterator[tuple[KeptRow | None, Outcome[object] | None]]:
    """Give each row of the input with its outcome; raises `JournalError`, naming the line, where they do not fit."""
    try:
        for index, outcome in enumerate(journal.joined(reader)):
            yield reader.take_row(index), outcome
    except JournalError as error:
        raise named_in(error, reader) from None


def _end(output: RecordFile, notes: Sequence[str]) -> int:
    console = stderr_console()
    output.complete()
    if output.problem is not None:
        console.print(Text(tidy(f"Stopped: {output.problem}"), style="red"))
        return ExitCode.NOT_ALL_APPLIED
    for note in notes:
        console.print(Text(f"{note[:1].upper()}{note[1:]}."))
    return ExitCode.OK

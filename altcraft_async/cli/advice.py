"""What stopped a run, and what to do next: commands that can be run as they are printed."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftError, JournalError, OutcomeState
from altcraft_async.cli.inputs import INPUT_OPTIONS, command_again
from altcraft_async.ingest import InputFormat
from altcraft_async.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.job import SyncJob
    from altcraft_async.cli.sink import Sink
    from altcraft_async.ingest import UpdateReader
    from altcraft_async.journal import JournalSummary

__all__ = ["Advice", "next_steps"]

_OF_THIS_RUN = (
    "journal", "retry_failed", "extend", "failed", "results", "dry_run", "limit", "max_failures", "input_format",
    "last_line", "quiet", "as_json",
)  # fmt: skip
"""The options that say nothing of how to send the failed rows again."""


@attrs.frozen(kw_only=True)
class Advice:
    """How a run ended, as far as it matters for what to do next.

    `unread` says that the input was not read to its end, `copied` that the rest of it is in the failed file.
    """

    job: SyncJob
    reader: UpdateReader
    sink: Sink
    stopped_by: str | None
    interrupted: bool
    unread: bool
    copied: bool

    def give(self, talk: Talk) -> None:
        """Say in plain words what stopped the run, and what to do next."""
        self._say_what_stopped(talk)
        tally, failed = self.sink.tally, self.job.failed
        if self.copied:
            talk.say(f"The rows that were not read are in {failed} too.")
        elif self.unread:
            talk.say("The input was not read to its end.")
        if tally.all_rejected:
            said = "No update was accepted; before you send them again, look whether these are the right columns"
            talk.say(f"{said} and the right platform (altcraft-async doctor).", "yellow")
        if self.job.journal is not None:
            for step in self._by_journal(self.job.journal):
                talk.say(step)
        elif failed not in {None, "-"} and self.sink.failed_is_whole and (tally.failed or self.copied):
            talk.say(f"To send what failed again: {shlex.join(self._command_for(str(failed)))}")

    def _say_what_stopped(self, talk: Talk) -> None:
        tally = self.sink.tally
        if self.stopped_by is not None:
            talk.say(f"Stopped: {self.stopped_by}", "red")
        if self.interrupted:
            talk.say("Interrupted; every update that was under way has its outcome.", "yellow")
        if tally.refused is not None:
            talk.say(f"Nothing more was sent: {_reason(tally.refused)}.", "red")
        if tally.unreachable is not None:
            said = "The server could not be reached; check the address, and that it is up (altcraft-async doctor)."
            talk.say(said, "red")

    def _command_for(self, failed: str) -> list[str]:
        """Return the command that sends the failed file."""
        written = self.reader.format.of_rows
        without = {*_OF_THIS_RUN}
        if self.reader.encoding == "utf-8":
            without.add("encoding")
        if written is not self.reader.format:
            without.add("skip_lines")
        words = command_again(source=failed, without=without)
        told = InputFormat.of_name(failed) or InputFormat.CSV
        return words if told.of_rows is written else [*words, "--format", str(written)]

    def _by_journal(self, path: str) -> Iterator[str]:
        limit = self.job.limit
        try:
            with JournalReader(path) as journal:
                known = journal.summary()
        except JournalError:
            yield f"Next: when that is corrected, run the same command again: {shlex.join(command_again())}"
            return
        if limit is not None and not self.reader.exhausted and known.recorded >= limit:
            yield f"Only the first {limit:,} rows were asked for; to go on with the rest, leave --sample out."
            return
        for step in next_steps(known, command_again(), command_again(only=INPUT_OPTIONS)):
            yield f"Next: {step}"


def next_steps(summary: JournalSummary, command: Sequence[str], source: Sequence[str]) -> Iterator[str]:
    """Say what to do next about a run that `command` made of `source`; nothing where nothing is left to do."""
    again = [word for word in command if word != "--retry-failed"]
    if summary.in_use:
        yield "a run writes the journal now; wait until that has ended"
        return
    if not summary.finished:
        yield f"to finish the run, run the same command again: {shlex.join(again)}"
        return
    invalid = summary.counts[OutcomeState.INVALID]
    if summary.failed > invalid:
        yield f"to send again what failed: {shlex.join([*again, '--retry-failed'])}"
    if invalid and summary.method.endswith("update_order_line_status"):
        extract = ["altcraft-async", "journal", "failed", summary.path, "--input", *source, "-o", "FILE"]
        yield f"to correct invalid rows, extract them: {shlex.join(extract)}"


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, AltcraftError) else str(error)

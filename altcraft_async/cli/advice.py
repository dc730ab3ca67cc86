"""What stopped a run, and what to do next: commands that can be run as they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftError, JournalError, OutcomeState
from altcraft_async.cli.inputs import INPUT_OPTIONS, command_again, said_of
from altcraft_async.ingest import InputFormat
from altcraft_async.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.job import SyncJob
    from altcraft_async.cli.sink import Sink
    from altcraft_async.ingest import HeldBackError, UpdateReader
    from altcraft_async.journal import JournalSummary

__all__ = ["Advice", "next_steps", "reason_of"]

_OF_THIS_RUN = (
    "journal", "retry_failed", "extend", "failed", "results", "report", "dry_run", "limit", "max_failures",
    "input_format", "quiet", "as_json",
)  # fmt: skip
"""The options that say nothing of how to send the failed rows again."""


@attrs.frozen(kw_only=True)
class Advice:
    """How a run ended, as far as it matters for what to do next.

    `held` is what was held back of the input, `unread` says that it was not read to its end,
    `copied` that the rest of it is in the failed file, up to where it breaks off.
    """

    job: SyncJob
    reader: UpdateReader
    sink: Sink
    stopped_by: str | None
    interrupted: bool
    held: HeldBackError | None
    unread: bool
    copied: bool

    def give(self, talk: Talk) -> None:
        """Say in plain words what stopped the run, and what to do next."""
        self._say_what_stopped(talk)
        if self.unread:
            self._say_where_the_rest_is(talk)
        if self.sink.tally.all_rejected:
            said = "No update was accepted; before you send them again, look whether these are the right columns"
            talk.say(f"{said} and the right platform (altcraft-async doctor).", "yellow")
        if self.job.journal is not None:
            self._by_journal(talk, self.job.journal)
        elif self.job.failed not in {None, "-"} and self.sink.failed_is_whole:
            self._by_failed(talk, str(self.job.failed))

    def _say_where_the_rest_is(self, talk: Talk) -> None:
        failed, broken = self.job.failed, self.sink.uncopied
        if not self.copied:
            talk.say("The input was not read to its end.")
        elif broken is None:
            talk.say(f"The rows that were not read are in {failed} too.")
        elif broken is self.held:
            talk.say(f"What was held back is not in {failed}.")
        else:
            talk.say(f"The rows that were not read are in {failed} too, but not all of them: {said_of(broken)}")

    def _by_failed(self, talk: Talk, failed: str) -> None:
        """Say how to send the failed file, and what must be done before, so that it does not end in the same way."""
        tally = self.sink.tally
        copied = self.copied and self.sink.uncopied is not self.held
        if copied and self.held is not None:
            said = f"Correct {failed} where that stands, then send it again"
        elif tally.all_rejected:
            said = "When that is settled, send them again"
        elif not copied and tally.failed == tally.states["invalid"]:
            said = f"Correct the rows in {failed}, then send them again"
        else:
            said = "To send what failed again"
        if tally.failed or copied:
            talk.command(said, self._command_for(failed))

    def _say_what_stopped(self, talk: Talk) -> None:
        tally = self.sink.tally
        if self.stopped_by is not None:
            talk.say(f"Stopped: {self.stopped_by}", "red")
        if self.interrupted:
            talk.say("Interrupted; every update that was under way has its outcome.", "yellow")
        if tally.refused is not None:
            talk.say(f"Nothing more was sent: {reason_of(tally.refused)}.", "red")
        known = self.interrupted or self.stopped_by is not None or tally.refused is not None
        if tally.stopped is not None and not known:
            talk.say(f"Stopped: {reason_of(tally.stopped)}", "red")
        if tally.unreachable is not None:
            said = "The server could not be reached; check the address, and that it is up (altcraft-async doctor)."
            talk.say(said, "red")

    def _command_for(self, failed: str) -> list[str]:
        """Return the command that sends the failed file."""
        written = self.reader.kept_as
        without = {*_OF_THIS_RUN}
        if self.reader.encoding == "utf-8":
            without.add("encoding")
        if written is not self.reader.format:
            without.add("skip_lines")
        words = command_again(source=failed, without=without)
        told = InputFormat.of_name(failed) or InputFormat.CSV
        return words if told.of_rows is written else [*words, "--format", str(written)]

    def _by_journal(self, talk: Talk, path: str) -> None:
        limit = self.job.limit
        try:
            with JournalReader(path) as journal:
                known = journal.summary()
        except JournalError:
            talk.command("Next: when that is corrected, run the same command again", command_again())
            return
        if limit is not None and not self.reader.exhausted and known.recorded >= limit:
            asked = "row was" if limit == 1 else f"{limit:,} rows were"
            talk.say(f"Only the first {asked} asked for; to go on with the rest, leave --sample out.")
            return
        for said, command in next_steps(known, command_again(), command_again(only=INPUT_OPTIONS)):
            talk.command(f"Next: {said}", command)


def next_steps(
    summary: JournalSummary, command: Sequence[str], source: Sequence[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Give what to do next about a run that `command` made of `source`, and the command for it.

    Nothing where nothing is left to do, and where a run writes the journal.
    """
    if summary.in_use:
        return
    again = [word for word in command if word != "--retry-failed"]
    if not summary.finished:
        yield "to finish the run, run the same command again", again
        return
    invalid = summary.counts[OutcomeState.INVALID]
    if summary.failed > invalid:
        yield "to send again what failed", [*again, "--retry-failed"]
    if invalid:
        extract = ["altcraft-async", "journal", "failed", summary.path, "--input", *source, "-o", "FILE"]
        yield "to correct invalid rows, extract them", extract


def reason_of(error: BaseException) -> str:
    """Return what an error says, without the row that it was met with."""
    return error.message if isinstance(error, AltcraftError) else str(error)

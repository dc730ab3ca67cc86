"""The command ``reconcile``: the platform against an input, or against what a journal says was sent of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import attrs

from altcraft_async import AltcraftError, InvalidUpdateError, LineKey, LineStatusUpdate, OutcomeState
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.inputs import named_in
from altcraft_async.cli.journal import IMPORTED
from altcraft_async.cli.rows import write_row
from altcraft_async.cli.signals import interruptible
from altcraft_async.cli.talk import complain
from altcraft_async.errors import JournalError
from altcraft_async.journal import JournalReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async import AltcraftClient
    from altcraft_async.cli.inputs import Input
    from altcraft_async.ingest import UpdateReader
    from altcraft_async.market.reconcile import By, Reconciliation

__all__ = ["Comparison"]

_APPLIED = (OutcomeState.APPLIED, OutcomeState.DUPLICATE)


@attrs.frozen(kw_only=True)
class Comparison:
    """What is compared, and how."""

    input: Input
    journal: str | None
    by: By
    endpoint: str | None
    quiet: bool = False

    def run(self, client: AltcraftClient) -> int:
        """Write a row for each difference, and say the whole on stderr; return the exit code."""
        expected, unchecked = self._expected()
        code = asyncio.run(self._compare(client, list(expected.values())))
        return ExitCode.NOT_ALL_APPLIED if unchecked and code == ExitCode.OK else code

    def _expected(self) -> tuple[dict[LineKey, LineStatusUpdate], int]:
        """Read the last status of every line that should be there, and count what is left out.

        Of what is in doubt nothing can be expected.
        """
        expected: dict[LineKey, LineStatusUpdate] = {}
        in_doubt: set[LineKey] = set()
        left_out: list[InvalidUpdateError] = []
        for row, state in self._rows():
            if isinstance(row, InvalidUpdateError):
                left_out.append(row)
            elif state in _APPLIED:
                expected[row.key] = row
                in_doubt.discard(row.key)
            elif state is OutcomeState.UNKNOWN or state is None:
                expected.pop(row.key, None)
                in_doubt.add(row.key)
        if left_out:
            complain(f"Note: {len(left_out):,} invalid rows are left out, the first because {left_out[0]}.")
        if in_doubt:
            complain(
                f"Note: {len(in_doubt):,} lines are left out: the journal does not know whether they were updated."
            )
        return expected, len(left_out) + len(in_doubt)

    def _rows(self) -> Iterator[tuple[LineStatusUpdate | InvalidUpdateError, OutcomeState | None]]:
        """Give each row with its state by the journal; without one every row was applied."""
        with contextlib.ExitStack() as stack:
            journal = None if self.journal is None else stack.enter_context(JournalReader(self.journal))
            if journal is not None and (method := journal.summary().method) in IMPORTED:
                msg = (
                    f"the journal {self.journal} records a run of {method}, and this compares updates of order lines: "
                    "give the journal of a sync; what was imported a program compares with orders.reconcile()"
                )
                raise JournalError(msg, path=self.journal)
            reader = stack.enter_context(self.input.open())
            if journal is None:
                for row in reader:
                    yield row, OutcomeState.APPLIED
                return
            try:
                yield from _joined(reader, journal)
            except JournalError as error:
                raise named_in(error, reader) from None

    async def _compare(self, client: AltcraftClient, expected: list[LineStatusUpdate]) -> int:
        with interruptible() as interruption:
            try:
                async with client:
                    found = await client.market.orders.reconcile(expected, by=self.by, endpoint=self.endpoint)
            except AltcraftError as error:
                complain(f"Error: {error}")
                return exit_code_of(error)
            except asyncio.CancelledError:
                if interruption.exit_code is None:
                    raise
                complain("Interrupted; nothing was compared.")
                return interruption.exit_code
        return self._tell(found)

    def _tell(self, found: Reconciliation) -> int:
        for difference in found.differences:
            row = {name: value for name, value in attrs.asdict(difference).items() if value}
            write_row(row if difference.found else {**row, "found": None})
        for external_id, reason in found.unchecked_orders.items():
            write_row({"order_external_id": external_id, "unchecked": reason})
        how = "looked up one by one" if found.by == "status" else "read from the list"
        if not (self.quiet and found.ok):
            complain(f"{found} ({how}).")
        return ExitCode.OK if found.ok else ExitCode.NOT_ALL_APPLIED


def _joined(
    reader: UpdateReader, journal: JournalReader
) -> Iterator[tuple[LineStatusUpdate | InvalidUpdateError, OutcomeState | None]]:
    last: list[LineStatusUpdate | InvalidUpdateError] = []

    def rows() -> Iterator[LineStatusUpdate | InvalidUpdateError]:
        for row in reader:
            last[:] = [row]
            yield row

    for outcome in journal.joined(rows()):
        yield last[0], None if outcome is None else outcome.state

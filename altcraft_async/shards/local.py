"""What a copy of a shard has on this machine: its rows, its journal, and the way of that to the directory and back."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from altcraft_async.errors import JournalError
from altcraft_async.journal import JournalReader, begin_journal
from altcraft_async.journal.commits import reopen_failed
from altcraft_async.journal.format import KIND
from altcraft_async.shards.errors import ShardError
from altcraft_async.shards.kept import forget_kept, keep, take_kept
from altcraft_async.shards.plan import checksum_of, foreign, name_of
from altcraft_async.storage.snapshot import copy_database

if TYPE_CHECKING:
    from pathlib import Path

    from altcraft_async.journal import JournalSummary
    from altcraft_async.shards.plan import Plan
    from altcraft_async.storage.places import Place

__all__ = ["Local"]

Knowledge: TypeAlias = tuple[int, int, int]
"""How often rejected rows were sent again, how many rows ended well, and how many have an outcome."""
_NOTHING: Knowledge = (-1, -1, -1)
_log = logging.getLogger("altcraft_async.shards")
"""What is logged here, a person must know: that changes may be made twice, or go out again."""


class Local:
    """The rows and the journal of a shard, in a `folder` of this copy alone. All methods block; threads may share it.

    Of the directory's snapshot it remembers which one was its own, or that it began with. Another one, of a copy beside
    this one, is replaced only by a journal that knows as much.
    """

    __slots__ = (
        "_closed", "_copy", "_folder", "_lock", "_name", "_number", "_place", "_plan", "_run_id", "_version", "journal",
        "rows",
    )  # fmt: skip

    def __init__(self, place: Place, plan: Plan, number: int, folder: Path) -> None:
        self._place = place
        self._plan = plan
        self._number = number
        self._run_id = plan.run_id(number)
        self._name = name_of(number, "journal")
        self._folder = folder
        # None of these names comes from the user's files, so that they never meet.
        self.rows, self.journal, self._copy = folder / "rows", folder / "journal", folder / "copy"
        self._version: str | None = None
        self._lock = threading.Lock()  # a thread that is not waited for any more may still be at it
        self._closed = False

    def fetch(self, target: str) -> JournalSummary:
        """Bring the shard and its journal here, one for `target` if there is none; refuse a shard that is another."""
        shard = self._plan.shards[self._number]
        where = f"{shard.file} of {self._place.address}"
        try:
            self._place.fetch(shard.file, self.rows)
        except FileNotFoundError:
            msg = f"{where} is not there; put it back"
            raise ShardError(msg, directory=self._place.address, shard=self._number) from None
        if checksum_of(self.rows) != shard.checksum:
            msg = f"{where} is not the file that was planned; put that back, or make a new plan elsewhere"
            raise ShardError(msg, directory=self._place.address, shard=self._number)
        self._restore()
        if not self.journal.exists():
            begin_journal(self.journal, run_id=self._run_id, target=target, now=time.time())
        summary = self.summary()
        if summary.target != target:
            msg = (
                f"shard {self._number} of {self._place.address} was begun against {summary.target}, and the settings "
                f"are for {target}; change them, or make a new plan elsewhere"
            )
            raise ShardError(msg, directory=self._place.address, shard=self._number)
        return summary

    def summary(self) -> JournalSummary:
        """Return the summary of the journal."""
        return _summary_of(self.journal)

    def note(self, said: str) -> None:
        """Log what is said of the journal here, which is that of the directory."""
        _log.warning("%s", said.replace(str(self.journal), self._place.path(self._name)))

    def announce_retry(self) -> JournalSummary | None:
        """Put into the directory what the journal is once the failed rows are sent again, before any is.

        So whoever goes on after a kill sends the rest, under the same ids. Returns the summary of that; None if the
        directory has a journal of another copy which knows more.
        """
        with self._lock:
            reopened = self._folder / "reopened"
            copy_database(KIND, str(self.journal), str(reopened))
            reopen_failed(reopened)
            copy_database(KIND, str(reopened), str(self._copy))
            return _summary_of(self._copy) if self._put_copy() else None

    def is_behind(self) -> bool:
        """Say whether the directory has a snapshot of another copy that knows more than the journal here."""
        with self._lock:
            return self._knows_less(self.journal)

    def snapshot(self, *, last: bool = False) -> bool:
        """Put the journal into the directory, after the `last` time no more; false if that has one which knows more."""
        with self._lock:
            if self._closed:
                return True
            self._closed = last
            copy_database(KIND, str(self.journal), str(self._copy))
            return self._put_copy()

    def _put_copy(self) -> bool:
        if self._knows_less(self._copy):
            return False
        self._place.put(self._copy, self._name)
        self._version = self._place.version(self._name)
        return True

    def keep(self, error: Exception) -> ShardError:
        """Keep the journal on this machine, as its directory does not take it, and return the error that says so."""
        copy_database(KIND, str(self.journal), str(self._copy))
        kept = keep(self._copy, self._run_id)
        msg = (
            f"shard {self._number} of {self._place.address} could not be written there in the end ({error}); its "
            f"journal is kept at {kept}: correct that, and deliver the shard again on this machine, and it goes on"
        )
        return ShardError(msg, directory=self._place.address, shard=self._number)

    def forget_kept(self) -> None:
        """Remove a journal that was kept here, as the directory knows as much now."""
        forget_kept(self._run_id)

    def _restore(self) -> None:
        """Take the journal of an earlier copy, of the directory or kept here, that knows most; or all is repeated."""
        self._version = self._place.version(self._name)
        fetch = partial(self._place.fetch, self._name)
        most = _NOTHING
        for what, bring in (("snapshot", fetch), ("journal that was kept here", partial(take_kept, self._run_id))):
            found = self._folder / "found"
            with contextlib.suppress(FileNotFoundError):
                bring(found)
                known = self._known_to(found, what)
                if known > most:
                    most = known
                    found.replace(self.journal)

    def _knows_less(self, path: Path) -> bool:
        if self._place.version(self._name) in {None, self._version}:
            return False
        other = self._folder / "other"
        with contextlib.suppress(FileNotFoundError):
            self._place.fetch(self._name, other)
            return self._known_to(other, "snapshot") > _knowledge(path)
        return False

    def _known_to(self, path: Path, what: str) -> Knowledge:
        """Return what a journal knows, nothing if it is damaged; refuse that of another plan."""
        try:
            with JournalReader(path) as journal:
                if journal.summary().run_id != self._run_id:
                    raise foreign(self._place, self._number, "journal")
                for _ in journal.outcomes():  # damage shows where it is read
                    pass
            return _knowledge(path)
        except JournalError as error:
            said = "the %s of shard %d of %s is left alone, what it had goes out again under its old ids: %s"
            problem = str(error).replace(str(path), self._place.path(self._name) if what == "snapshot" else "it")
            _log.warning(said, what, self._number, self._place.address, problem)
            return _NOTHING


def _summary_of(path: Path) -> JournalSummary:
    with JournalReader(path) as journal:
        return journal.summary()


def _knowledge(path: Path) -> Knowledge:
    with JournalReader(path) as journal:
        summary = journal.summary()
        return journal.rounds(), summary.recorded - summary.failed, summary.recorded

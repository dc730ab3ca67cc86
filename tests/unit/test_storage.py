"""SQLite files with care: group commits, locks, and errors that say what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import attrs
import pytest
from read_only import read_only_folder

from altcraft_async.errors import StorageError
from altcraft_async.storage.lock import Lock
from altcraft_async.storage.sqlite import FileKind, GroupWriter, Upgrade, insert_many, open_database, translated

KIND = FileKind("the test file", 0x7E57, 3, "CREATE TABLE number (value INTEGER PRIMARY KEY, word TEXT)", StorageError)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "numbers.db")


def values_in(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM number ORDER BY value")]


class Written:
    """A writer of numbers, and what it told."""

    def __init__(self, path, **options):
        self.told, self.failures, self.event = [], [], asyncio.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.writer = GroupWriter(
            KIND, path, open_database(KIND, path), write=self._write, committed=self._committed, failed=self._failed,
            **options,
        )  # fmt: skip

    def _write(self, connection, group):
        self.gate.wait(5)
        insert_many(connection, "INSERT INTO number", [(value, str(value)) for value in group])

    def _committed(self, group):
        self.told.append(list(group))
        self.event.set()

    def _failed(self, error, group):
        self.failures.append((error, list(group)))
        self.event.set()


async def test_what_comes_during_a_commit_shares_the_next_one(path):
    written = Written(path)
    written.gate.clear()
    written.writer.submit(0)
    await asyncio.sleep(0.01)
    for value in range(1, 300):
        written.writer.submit(value)
    written.gate.set()
    await written.writer.aclose()
    assert [value for group in written.told for value in group] == list(range(300))
    assert len(written.told) <= 3
    assert values_in(path) == list(range(300))


async def test_closing_commits_what_lingers_and_can_be_repeated(path):
    written = Written(path, linger=30.0)
    written.writer.submit(1)
    async with asyncio.timeout(30):
        await written.writer.aclose()
        await written.writer.aclose()
    assert written.told == [[1]]


async def test_a_hurry_ends_the_lingering(path):
    written = Written(path, linger=30.0)
    written.writer.submit(1)
    written.writer.hurry()
    async with asyncio.timeout(30):
        await written.event.wait()
    await written.writer.aclose()
    assert written.told == [[1]]


async def test_a_cancelled_closing_still_closes(path):
    written = Written(path)
    written.gate.clear()
    written.writer.submit(1)
    closing = asyncio.ensure_future(written.writer.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.sleep(0)
    written.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert written.told == [[1]]


@pytest.mark.parametrize(("stops", "after"), [(True, []), (False, [[2]])])
async def test_a_group_that_fails_leaves_nothing_and_is_told(path, stops, after):
    written = Written(path, stop_on_failure=stops)
    written.writer.submit(1)
    await written.event.wait()
    written.event.clear()
    for value in (7, 1):  # 1 is there already
        written.writer.submit(value)
    await written.event.wait()
    written.writer.submit(2)
    await written.writer.aclose()
    (error, group), *_ = written.failures
    assert "the test file" in str(error)
    assert 1 in group
    assert written.told[1:] == after or written.told[1:] == [[7], *after]


async def test_a_defect_in_writing_is_told_and_not_waited_for(path):
    def defect(connection, group):
        raise ZeroDivisionError

    told = asyncio.get_running_loop().create_future()
    writer = GroupWriter(
        KIND, path, open_database(KIND, path), write=defect, committed=print,
        failed=lambda error, _: told.set_result(error),
    )  # fmt: skip
    writer.submit(1)
    error = await told
    assert "ZeroDivisionError" in str(error)
    await writer.aclose()


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000])
def test_any_number_of_rows_is_inserted(path, count):
    with contextlib.closing(open_database(KIND, path)) as connection:
        insert_many(connection, "INSERT INTO number", [(value, "x") for value in range(count)])
    assert values_in(path) == list(range(count))


def test_a_file_is_durable_by_its_settings(path):
    with contextlib.closing(open_database(KIND, path)) as connection:
        settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]


def test_reading_makes_no_file_and_leaves_none_behind(path, tmp_path):
    with pytest.raises(StorageError, match="does not exist; check the path"):
        open_database(KIND, path, write=False)
    open_database(KIND, path).close()
    with (
        contextlib.closing(open_database(KIND, path, write=False)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("INSERT INTO number VALUES (1, 'x')")
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.db"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SQLITE_BUSY", "is in use by another process"),
        ("SQLITE_FULL", "is full; free some space"),
        ("SQLITE_CORRUPT", "is damaged; put it aside"),
        ("SQLITE_NOTADB", "is damaged"),
        ("SQLITE_READONLY_DIRECTORY", "cannot be written; check that its directory"),
        ("SQLITE_CANTOPEN", "cannot be written"),
        ("SQLITE_IOERR_WRITE", "failed on its disk"),
        ("SQLITE_MISUSE", "cannot be used"),
    ],
)
def test_every_trouble_of_sqlite_says_what_to_do(path, name, said):
    error = sqlite3.OperationalError("whatever")
    error.sqlite_errorname = name
    with pytest.raises(StorageError, match=said) as caught, translated(KIND, path):
        raise error
    assert path in str(caught.value)
    assert caught.value.path == path


def test_a_lock_is_held_once_and_freed(path):
    first, second = Lock(KIND, path), Lock(KIND, path)
    first.acquire("taken")
    assert second.held()
    assert not second.try_acquire()
    with pytest.raises(StorageError, match="taken"):
        second.acquire("taken")
    first.release()
    first.release()
    assert second.try_acquire()
    assert second.try_acquire()
    second.release()


@pytest.mark.slow
def test_a_lock_is_freed_by_the_death_of_its_process(path):
    code = (
        "import sys; from altcraft_async.storage.lock import Lock; from altcraft_async.storage.sqlite import *\n"
        "from altcraft_async.errors import StorageError\n"
        "Lock(FileKind('x', 1, 1, '', StorageError), sys.argv[1]).acquire('taken')\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert not Lock(KIND, path).try_acquire()
        process.kill()
        process.wait()
        lock = Lock(KIND, path)
        assert lock.try_acquire(patience=5.0)
        lock.release()


# -- rights, and places where nothing can be written


def killed_after(path, value):
    """Write a value in a process that is killed with the file open."""
    code = (
        "import os, sqlite3, sys; connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"connection.execute('INSERT INTO number VALUES ({value}, 0)'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9


def make_lock_file(path):
    lock = Lock(KIND, str(path))
    assert lock.try_acquire()
    lock.release()


@pytest.mark.parametrize("state", ["closed", "killed", "killed, and copied without its index"])
def test_a_file_is_read_where_nothing_can_be_written(tmp_path, state):
    path = tmp_path / "numbers.db"
    with read_only_folder(tmp_path) as seal:
        open_database(KIND, str(path)).close()
        if state != "closed":
            killed_after(path, 7)
        if state == "killed, and copied without its index":
            (tmp_path / "numbers.db-shm").unlink()
        make_lock_file(path)
        seal()
        before = sorted(file.name for file in tmp_path.iterdir())
        with contextlib.closing(open_database(KIND, str(path), write=False)) as connection:
            found = connection.execute("SELECT value FROM number").fetchall()
            assert not Lock(KIND, str(path)).held()
        assert found == ([] if state == "closed" else [(7,)])
        assert sorted(file.name for file in tmp_path.iterdir()) == before


def test_a_lock_that_cannot_be_written_refuses_instead_of_passing(tmp_path):
    path = str(tmp_path / "numbers.db")
    with read_only_folder(tmp_path) as seal:
        make_lock_file(path)
        seal()
        with pytest.raises(StorageError, match=r"the lock of the test file .*numbers\.db\.lock cannot be written"):
            Lock(KIND, path).try_acquire()


def test_a_file_that_cannot_be_written_is_refused_when_it_is_opened_to_write(tmp_path):
    path = str(tmp_path / "numbers.db")
    with read_only_folder(tmp_path) as seal:
        open_database(KIND, path).close()
        killed_after(path, 7)  # its index stays, so that it can be opened
        seal()
        with pytest.raises(StorageError, match=r"numbers\.db cannot be written; check that its directory"):
            open_database(KIND, path)


@pytest.mark.slow
def test_another_user_who_may_only_read_reads_and_takes_no_lock(tmp_path):
    path = tmp_path / "numbers.db"
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("another user takes root and setpriv")
    open_database(KIND, str(path)).close()
    killed_after(path, 7)
    make_lock_file(path)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    code = (
        "import contextlib, sys; sys.path[:0] = sys.argv[2].split(':')\n"
        "from altcraft_async.errors import StorageError; from altcraft_async.storage.lock import Lock\n"
        "from altcraft_async.storage.sqlite import FileKind, open_database\n"
        "kind = FileKind('the test file', 0x7E57, 3, '', StorageError)\n"
        "print(open_database(kind, sys.argv[1], write=False).execute('SELECT value FROM number').fetchall())\n"
        "for attempt in (Lock(kind, sys.argv[1]).try_acquire, lambda: open_database(kind, sys.argv[1])):\n"
        "    try: attempt(); print('passed')\n"
        "    except StorageError as error: print(error)\n"
    )
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*as_nobody, sys.executable, "-c", "import attrs"], capture_output=True, check=False).returncode:
        pytest.skip("this Python cannot be run by another user")
    ended = subprocess.run(
        [*as_nobody, sys.executable, "-c", code, str(path), ":".join(filter(None, sys.path))],
        capture_output=True, text=True, check=False, env={},
    )  # fmt: skip
    read, lock, write = ended.stdout.splitlines()
    assert read == "[(7,)]"
    assert "numbers.db.lock cannot be written" in lock
    assert "numbers.db cannot be written" in write


# -- older formats


OLDER = attrs.evolve(KIND, version=2, schema="CREATE TABLE old (value INTEGER)")
UPGRADES = {
    2: Upgrade(
        write=lambda connection: connection.execute("ALTER TABLE old RENAME TO number"),
        read=lambda connection: connection.execute("CREATE TEMP VIEW number AS SELECT value FROM old"),
    )
}
NEWER = attrs.evolve(KIND, upgrades=UPGRADES)


def test_an_older_file_is_read_without_a_change_and_brought_over_by_the_first_that_writes(path):
    with contextlib.closing(open_database(OLDER, path)) as connection:
        connection.execute("INSERT INTO old VALUES (7)")
    for write, version in ((False, 2), (True, 3), (True, 3), (False, 3)):
        with contextlib.closing(open_database(NEWER, path, write=write)) as connection:
            assert connection.execute("SELECT value FROM number").fetchall() == [(7,)]
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)


def test_what_fails_to_be_brought_over_stays_as_it_was(path):
    def fail(connection):
        connection.execute("ALTER TABLE old RENAME TO number")
        raise sqlite3.OperationalError

    open_database(OLDER, path).close()
    broken = attrs.evolve(NEWER, upgrades={2: attrs.evolve(UPGRADES[2], write=fail)})
    with pytest.raises(StorageError):
        open_database(broken, path)
    open_database(OLDER, path).close()


@pytest.mark.parametrize("write", [False, True])
def test_a_file_of_a_version_that_is_not_known_is_refused(path, write):
    open_database(attrs.evolve(KIND, version=4), path).close()
    with pytest.raises(StorageError, match="has format version 4, and this altcraft_async knows version 3"):
        open_database(NEWER, path, write=write)

"""Columns that break off, that say other than they hold, and what stands in a directory beside them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from altcraft_async.ingest import FIELDS, HeldBackError, InputError, read_updates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def table(first: int, rows: int = 3) -> Any:
    numbers = range(first, first + rows)
    return pa.table(dict(zip(FIELDS, ([f"o{n}" for n in numbers], ["l"] * rows, ["new"] * rows), strict=True)))


def stream(batches: int = 2) -> tuple[bytes, int]:
    """Return a whole stream, and where its mark of the end begins."""
    content = io.BytesIO()
    with pa.ipc.new_stream(content, table(0).schema) as writer:
        for number in range(batches):
            writer.write_table(table(3 * number))
        end = content.tell()
    return content.getvalue(), end


def read(source: Any) -> tuple[list[str], str]:
    """Return the orders that were read, and what was said then."""
    found: list[str] = []
    try:
        with read_updates(source) as rows:
            found.extend(str(row.order_external_id) for row in rows)  # type: ignore[union-attr]
    except HeldBackError as error:
        return found, str(error)
    return found, ""


class Pipe(io.RawIOBase):
    """The reading end of a pipe."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


def as_file(content: bytes, directory: Path) -> Any:
    (directory / "in.arrows").write_bytes(content)
    return directory / "in.arrows"


def as_pipe(content: bytes, directory: Path) -> Any:
    del directory
    return io.BufferedReader(Pipe(content))


@pytest.mark.parametrize("given", [as_file, as_pipe])
def test_a_stream_is_whole_with_its_mark_of_the_end_alone(tmp_path: Path, given: Callable[[bytes, Path], Any]) -> None:
    content, end = stream()
    orders = [f"o{n}" for n in range(6)]
    assert read(given(content, tmp_path)) == (orders, "")
    found, said = read(given(content[:end], tmp_path))
    assert found == orders
    assert "after row 6: the file breaks off or is damaged (the mark of its end is missing" in said
    found, said = read(given(content + content, tmp_path))
    assert found == orders
    assert "there is more behind the mark of its end" in said


def test_a_length_beyond_all_memory_is_damage() -> None:
    class Huge(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > len(stream(0)[0]):
                raise MemoryError
            return super().read(size)

    found, said = read(Huge(stream()[0]))
    assert not found
    assert "asks for more memory than there is" in said


def test_a_row_group_that_ends_early_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(0, 9), tmp_path / "a.parquet", row_group_size=3)
    usual = pq.ParquetFile.iter_batches

    def cut_off(file: Any, *args: Any, row_groups: list[int], **options: Any) -> Any:
        for batch in usual(file, *args, row_groups=row_groups, **options):
            yield batch.slice(0, 1) if row_groups == [1] else batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", cut_off)
    found, said = read(tmp_path / "a.parquet")
    assert found == ["o0", "o1", "o2", "o3"]
    assert "row group 1 has 1 rows, and 3 by the footer" in said


@pytest.mark.parametrize("source", ["{}/in", "file://{}/in", "{}/in/**/*", "file://{}/in/**/*", "{}/in/**"])
def test_a_link_to_a_directory_is_read_once_for_each_way_to_it_and_no_loop_is_followed(
    tmp_path: Path, source: str
) -> None:
    if "://" in source:
        pytest.importorskip("fsspec")
    for name, first in (("in/a", 0), ("real/b", 3), ("real/deep/c", 6)):
        (tmp_path / f"{name}.parquet").parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(first), tmp_path / f"{name}.parquet")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "up").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "in").symlink_to(tmp_path / "in")
    found, said = read(source.format(tmp_path))
    assert (sorted(found), said) == ([f"o{n}" for n in range(9)], "")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
@pytest.mark.parametrize("strange", ["pipe", "broken"])
@pytest.mark.parametrize("prefix", ["", "file://"])
def test_what_is_no_file_in_a_directory_is_named_and_hangs_nobody(tmp_path: Path, strange: str, prefix: str) -> None:
    if prefix:
        pytest.importorskip("fsspec")
    pq.write_table(table(0), tmp_path / "a.parquet")
    if strange == "pipe":
        os.mkfifo(tmp_path / "pipe")
    else:
        (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    program = "import sys; from altcraft_async.ingest import read_updates; read_updates(sys.argv[1])"
    ended = subprocess.run(
        [sys.executable, "-c", program, f"{prefix}{tmp_path}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"{tmp_path}/{strange} too, which is a pipe, a device or a link to nothing; move it away" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="the superuser may read everything")
def test_a_directory_that_cannot_be_looked_into_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(InputError, match=r"closed cannot be looked at: Permission denied"):
        read_updates(tmp_path)

"""A report as a Parquet file: what stands there stays until the new one is whole."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from altcraft_async import InvalidUpdateError, MissingExtraError, Outcome, OutcomeState, Report

pq = pytest.importorskip("pyarrow.parquet")


def report():
    return Report([], elapsed=0.0, sent=0, retries=0, throttled=0)


def test_a_file_stays_as_it_is_if_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "report.parquet"
    path.write_bytes(b"before")

    def full(table, where, **options):
        del table, options
        with open(where, "wb") if isinstance(where, str | os.PathLike) else where as file:  # noqa: PTH123
            file.write(b"PAR1")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        report().to_parquet(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_with_its_permissions_also_through_a_link(tmp_path):
    path, link = tmp_path / "report.parquet", tmp_path / "link"
    path.write_bytes(b"before")
    path.chmod(0o600)
    link.symlink_to(path)
    report().to_parquet(str(link))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pq.read_table(path).num_rows == 0


@pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full")
def test_a_device_that_takes_nothing_is_not_removed(tmp_path):
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        report().to_parquet(link)
    assert link.is_symlink()


def test_an_address_that_needs_a_library_is_an_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"s3://bucket/a cannot be written without a library .*s3fs"):
        report().to_parquet("s3://bucket/a")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'altcraft-async\[arrow\]'"):
        report().to_parquet("memory://a")


def test_an_error_with_what_is_no_character_can_be_written(tmp_path):
    error = InvalidUpdateError("order_external_id is empty", source="in\udcff.parquet", line=1)
    found = Report([Outcome(0, None, OutcomeState.INVALID, error=error)], elapsed=0.0, sent=0, retries=0, throttled=0)
    found.to_parquet(tmp_path / "out.parquet")
    assert "in\\udcff.parquet" in pq.read_table(tmp_path / "out.parquet")["error"].to_pylist()[0]

"""Directories for a while: one whose process has died is removed by the next, one that is in use never."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from altcraft_async.storage.scratch import remove_dead, scratch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks that end with their process")

_HOLDS_ONE = """
import sys, time
from altcraft_async.storage.scratch import scratch
with scratch("altcraft-test-") as folder:
    (folder / "large").write_bytes(bytes(1000))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def another():
    holder = subprocess.Popen([sys.executable, "-c", _HOLDS_ONE], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    yield holder, Path(holder.stdout.readline().strip())
    holder.kill()
    holder.communicate()


def test_a_directory_is_gone_at_the_end(tmp_path):
    with scratch("altcraft-test-") as folder:
        (folder / "file").touch()
        remove_dead("altcraft-test-")
        assert (folder / "file").exists(), "it is in use by this process"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_a_dead_process_is_removed_and_that_of_a_living_one_is_not(another, tmp_path):
    holder, folder = another
    assert folder.parent == tmp_path
    remove_dead("altcraft-test-")
    assert (folder / "large").exists()
    holder.kill()
    holder.wait()
    remove_dead("altcraft-other-")
    assert folder.exists()
    remove_dead("altcraft-test-")
    assert not folder.exists()


def test_directories_of_another_host_are_left_alone(another, monkeypatch):
    holder, folder = another
    holder.kill()
    holder.wait()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    remove_dead("altcraft-test-")
    assert folder.exists()


def test_a_link_is_never_followed(another, tmp_path):
    holder, folder = another
    holder.kill()
    holder.wait()
    target = folder.rename(tmp_path / "precious")
    folder.symlink_to(target)
    remove_dead("altcraft-test-")
    assert (target / "large").exists()

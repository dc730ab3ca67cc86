"""The command line as a person runs it: a process of its own, against a sandbox on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

from altcraft_async.cli.app import run
from altcraft_async.sandbox import Faults, ThreadedSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = "canary-5c0ffee5-token"
ROOT = Path(__file__).parents[2]


class CommandLine:
    """Runs ``python -m altcraft_async`` in a directory of its own."""

    def __init__(self, directory: Path, base_url: str) -> None:
        self.directory = directory
        self.said = ""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ALTCRAFT_")}
        # A wide terminal's width, so that no message is wrapped where a test looks for it.
        self.environ = kept | {
            "ALTCRAFT_BASE_URL": base_url,
            "ALTCRAFT_TOKEN": CANARY,
            "XDG_STATE_HOME": f"{directory}-state",
            "COLUMNS": "200",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }

    def __call__(self, *arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [sys.executable, "-m", "altcraft_async", *arguments],
            cwd=self.directory,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        stdout, stderr = ended.stdout.decode(), ended.stderr.decode()
        self.said += stdout + stderr
        return subprocess.CompletedProcess(ended.args, ended.returncode, stdout, stderr)

    def start(self, *arguments: str, **options: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "altcraft_async", *arguments],
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, name: str) -> str:
        return (self.directory / name).read_bytes().decode()


@pytest.fixture
def sandbox() -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(token=CANARY) as running:
        running.seed_orders(20, 2)
        yield running


@pytest.fixture
def command(tmp_path: Path, sandbox: ThreadedSandbox) -> Iterator[CommandLine]:
    """A command line that must never show a traceback, nor let the token out, whatever a test does."""
    runner = CommandLine(tmp_path, sandbox.base_url)
    yield runner
    assert "Traceback" not in runner.said
    assert "Warning" not in runner.said
    assert CANARY not in runner.said
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "token.txt":
            assert CANARY.encode() not in path.read_bytes(), path


@contextmanager
def piped(content: bytes) -> Iterator[TextIO]:
    """Give a pipe's end to read `content` from."""
    assert len(content) < 65_536, "a pipe holds no more before somebody reads"
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as text:
        yield text


@pytest.fixture
def here(
    command: CommandLine, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line within this process: ten times as quick, for all that needs no process to kill."""
    monkeypatch.chdir(command.directory)
    for name in [name for name in os.environ if name.startswith("ALTCRAFT_")]:
        monkeypatch.delenv(name)
    for name, value in command.environ.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        with monkeypatch.context() as changed, piped(stdin) as text:
            changed.setattr(sys, "argv", ["altcraft-async", *arguments])
            changed.setattr(sys, "stdin", text)
            for name, value in environ.items():
                changed.setenv(name, value)
            code = run()
        stdout, stderr = capfd.readouterr()
        command.said += stdout + stderr
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)

    return call


@pytest.fixture
def slow(sandbox: ThreadedSandbox) -> Callable[[float], None]:
    """Make the sandbox take its time, in seconds a call."""

    def make(latency: float) -> None:
        sandbox.faults = Faults(latency=latency)

    return make

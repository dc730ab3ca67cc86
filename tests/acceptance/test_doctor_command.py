"""``doctor`` as a person runs it."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

CHECKS = ["settings", "name", "connection", "token", "clock", "round trips", "repeats"]


def test_a_healthy_platform_is_told_line_by_line(here: Here, command: CommandLine, sandbox: ThreadedSandbox) -> None:
    ended = here("doctor")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line for line in ended.stdout.splitlines() if line.startswith("ok ")]
    assert [line[9:22].strip() for line in lines] == CHECKS
    assert f"token: set, {len(command.environ['ALTCRAFT_TOKEN'])} characters" in lines[0]
    assert "All is well." in ended.stdout
    assert "\x1b" not in ended.stdout
    assert sandbox.ledger.lines == ()


@pytest.mark.parametrize(
    ("environ", "code", "said"),
    [
        ({"ALTCRAFT_TOKEN": "wrong"}, 4, "failed   token        refused"),
        ({"ALTCRAFT_TIMEUOT": "3"}, 0, "-> Did you mean ALTCRAFT_TIMEOUT?"),
        ({"ALTCRAFT_TIMEOUT": "x", "ALTCRAFT_TOKEN": "wrong"}, 1, "what failed: settings, token."),
        (
            {"ALTCRAFT_BASE_URL": "http://127.0.0.1:9"},
            2,
            "skipped  4 checks     token, clock, round trips, repeats: not",
        ),
        ({"ALTCRAFT_BASE_URL": "https://name.invalid"}, 2, "failed   name         name.invalid has no address"),
        ({"ALTKRAFT_RATE": "3"}, 0, "It works, with 1 warning."),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(here: Here, environ: dict[str, str], code: int, said: str) -> None:
    ended = here("doctor", **environ)
    assert ended.returncode == code
    assert said in ended.stdout
    assert ended.stderr == ""


def test_json_is_one_object(here: Here) -> None:
    ended = here("doctor", "--json", ALTCRAFT_TOKEN="wrong")
    told = json.loads(ended.stdout)
    assert (ended.returncode, told["exit_code"], told["ok"]) == (4, 4, False)
    assert [finding["check"] for finding in told["findings"]] == CHECKS
    assert [finding["level"] for finding in told["findings"]] == ["ok"] * 3 + ["failed", "ok"] + ["skipped"] * 2
    assert told["versions"]["altcraft-async"]


def test_the_options_go_before_the_environment(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    command.write("token.txt", command.environ["ALTCRAFT_TOKEN"])
    arguments = ("--base-url", sandbox.base_url, "--token-file", "token.txt")
    ended = here("doctor", *arguments, ALTCRAFT_BASE_URL="http://127.0.0.1:9", ALTCRAFT_TOKEN="wrong")
    assert ended.returncode == 0
    assert "from ALTCRAFT_TOKEN_FILE" in ended.stdout


@pytest.mark.processes
def test_a_signal_ends_it_in_peace(command: CommandLine, slow: Callable[[float], None]) -> None:
    slow(20.0)
    process = command.start("doctor")
    assert process.stdout is not None
    while b"connection" not in process.stdout.readline():
        continue
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    command.said += stdout.decode() + stderr.decode()
    assert process.returncode == 130
    assert stderr == b"Interrupted.\n"


@pytest.mark.processes
async def test_an_authority_of_ones_own_is_trusted_as_the_doctor_advises(command: CommandLine) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(command.directory / "ca.pem"))
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        distrusted = await asyncio.to_thread(command, "doctor", ALTCRAFT_BASE_URL=url)
        trusted = await asyncio.to_thread(command, "doctor", ALTCRAFT_BASE_URL=url, SSL_CERT_FILE="ca.pem")
    assert "trust it: SSL_CERT_FILE=ca.pem" in distrusted.stdout
    assert "ok       connection" in trusted.stdout
    assert "failed   token        the connection broke" in trusted.stdout

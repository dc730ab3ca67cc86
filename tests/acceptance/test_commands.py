"""``update``, ``sandbox``, ``demo``, and what all commands have in common."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import attrs
import pytest

from altcraft_async import AltcraftClient, APIError
from altcraft_async.cli.sandbox_command import _READINGS
from altcraft_async.market.pages import IncompleteListWarning
from altcraft_async.sandbox import Fault, Faults, Readings

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CommandLine

    from altcraft_async.sandbox import ThreadedSandbox

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


def test_update_makes_one_change_and_echoes_it(here: Here, sandbox: ThreadedSandbox) -> None:
    ended = here("update", "order_1", "line_1_1", "delivered")
    assert (ended.returncode, ended.stdout) == (0, "order_1 line_1_1 delivered\n")
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "said"),
    [
        (("nope", "line", "new"), {}, 2, "order line nope/line: the server answered error 400"),
        (("order_1", "line_1_1", "new"), {"ALTCRAFT_TOKEN": "wrong"}, 4, "check the token"),
        (("order_1", "line_1_1", "new"), {"ALTCRAFT_TOKEN": ""}, 1, "ALTCRAFT_TOKEN is not set"),
        (("order_1", "line_1_1", "new"), {"ALTCRAFT_BASE_URL": "http://example.com"}, 1, "https://"),
        (
            ("order_1", "line_1_1", "new", "--deadline", "0.2"),
            {"ALTCRAFT_BASE_URL": "http://127.0.0.1:9"},
            3,
            "deadline",
        ),
        (("order_1", "line_1_1", "new", "--deadline", "soon"), {}, 1, "is no time span"),
    ],
)
def test_update_says_in_one_sentence_why_it_failed(
    here: Here, arguments: tuple[str, ...], environ: dict[str, str], code: int, said: str
) -> None:
    ended = here("update", *arguments, **environ)
    assert ended.returncode == code
    assert said in ended.stderr
    assert ("altcraft-async doctor" in ended.stderr) is (code == 3)
    assert ended.stdout == ""


def test_the_token_can_come_from_a_file_and_never_from_a_flag(command: CommandLine, here: Here) -> None:
    command.write("token.txt", command.environ["ALTCRAFT_TOKEN"] + "\n")
    ids = ("order_1", "line_1_1", "new")
    assert here("update", *ids, "--token-file", "token.txt", ALTCRAFT_TOKEN="wrong").returncode == 0
    assert here("update", *ids, "--token-file", "absent.txt").returncode == 1
    assert "No such option" in here("update", *ids, "--token", "x").stderr


@pytest.mark.parametrize(
    ("options", "environ", "said"),
    [
        (
            ("--rate", "fast"),
            {},
            "Invalid value for '--rate': it must be a number above zero, 'host:N', or 'none', not 'fast'",
        ),
        (("--retriable-codes", "5x"), {}, "it must be codes and ranges, like 408,500-599, not '5x'"),
        (
            ("--attempts", "2", "--max-retries", "2"),
            {},
            "--attempts and --max-retries set the same; give one of the two",
        ),
        (("--ca-file", "absent.pem"), {}, "ca_file absent.pem cannot be used (No such file or directory)"),
        ((), {"ALTCRAFT_TIMEOUT": "soon", "ALTCRAFT_TOKEN": ""}, "2 settings cannot work: ALTCRAFT_TIMEOUT must be"),
        ((), {"ALTCRAFT_TOKEN": "", "ALTCRAFT_TOKN": "x"}, "(ALTCRAFT_TOKN is set; is ALTCRAFT_TOKEN meant?)"),
        (
            (),
            {"ALTCRAFT_BASE_URL": "ru.altkraft.com"},
            "ALTCRAFT_BASE_URL has no scheme; write https://ru.altkraft.com",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_named_as_it_was_given(
    here: Here, options: tuple[str, ...], environ: dict[str, str], said: str
) -> None:
    ended = here("update", "order_1", "line_1_1", "new", *options, **environ)
    assert ended.returncode == 1
    assert said in ended.stderr


def test_an_option_goes_before_every_variable_that_sets_the_same(here: Here, sandbox: ThreadedSandbox) -> None:
    sandbox.faults = Faults(script=[Fault("error", status=418)] * 3)
    options = ("--max-retries", "3", "--retriable-codes", "418", "--retry-base", "0.01s", "--rate", "none")
    ended = here("update", "order_1", "line_1_1", "new", *options, ALTCRAFT_ATTEMPTS="1", ALTCRAFT_RATE="fast")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sandbox.ledger.requests == 4


def test_a_slip_in_a_variables_name_is_noted_and_a_foreign_one_is_left_alone(here: Here) -> None:
    ended = here("update", "order_1", "line_1_1", "new", ALTCRAFT_TIMEUOT="3", ALTCRAFT_PROJECT="shop")
    assert ended.returncode == 0
    assert ended.stderr == "Note: ALTCRAFT_TIMEUOT is no setting and was left alone; did you mean ALTCRAFT_TIMEOUT?\n"


@pytest.mark.parametrize("name", ["sync", "update", "doctor"])
def test_help_shows_the_clients_settings_in_a_section_of_their_own(here: Here, name: str) -> None:
    own, _, clients = here(name, "--help").stdout.partition("Client settings")
    for option in ("--base-url", "--timeout", "--max-retries", "--patience", "--fail-fast", "--retriable-codes"):
        assert option in clients
        assert option not in own
    assert "--json" in own


@pytest.mark.parametrize("arguments", [(), ("sync", "absent.csv"), ("sync", "-", "--map", "x")], ids=" ".join)
def test_a_mistake_in_the_command_exits_1(here: Here, arguments: tuple[str, ...]) -> None:
    ended = here(*arguments)
    assert ended.returncode == 1
    assert ended.stderr
    assert ended.stdout == ""


def test_help_names_exit_codes_settings_and_completion(here: Here) -> None:
    ended = here("--help")
    assert ended.returncode == 0
    for said in ("Exit codes:", "ALTCRAFT_TOKEN", "_ALTCRAFT_ASYNC_COMPLETE=bash_source"):
        assert said in ended.stdout


@pytest.mark.processes
def test_completion_is_there(command: CommandLine) -> None:
    ended = command(_ALTCRAFT_ASYNC_COMPLETE="zsh_source")
    assert ended.returncode == 0
    assert "compdef" in ended.stdout


def test_without_click_one_sentence_names_the_extra(command: CommandLine) -> None:
    code = "import sys; sys.modules['click'] = None; from altcraft_async.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=command.environ, capture_output=True, timeout=60, check=False, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "pip install 'altcraft-async[cli]'" in ended.stderr


@pytest.mark.processes
async def test_sandbox_serves_until_a_signal(command: CommandLine) -> None:
    process = command.start("sandbox", "--port", "0", "--orders", "1")
    assert process.stdout is not None
    base_url = process.stdout.readline().decode().strip()
    async with AltcraftClient(base_url, token=command.environ["ALTCRAFT_TOKEN"]) as altcraft:
        await altcraft.market.orders.update_order_line_status("order_1", "line_1_4", "delivered")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    command.said += stderr.decode()
    assert process.returncode == 130
    assert "1 requests: 1 applied" in stderr.decode()


@pytest.mark.processes
async def test_sandbox_takes_what_is_open_as_it_is_told(command: CommandLine) -> None:
    process = command.start(
        "sandbox", "--port", "0", "--orders", "3", "--status-result", "array", "--row-results", "data",
        "--partial-imports", "--no-cursor", "--page-limit", "2", "--line-statuses", "--unknown-orders", "ignored",
        "--unknown-goods", "refused", "--currency", "RUB", "--role", "reader=read", "--error-style", "http4xx",
        "--state", str(command.directory / "state"),
    )  # fmt: skip
    assert process.stdout is not None
    base_url = process.stdout.readline().decode().strip()
    row = {
        "email": "a@example.com",
        "endpoint": "shop",
        "status": "new",
        "total_price": "1",
        "lines": [{"external_id": "l"}],
    }
    rows = [{**row, "external_id": code, "currency": code} for code in ("RUB", "XXX")]
    async with AltcraftClient(base_url, token=command.environ["ALTCRAFT_TOKEN"]) as altcraft:
        orders = altcraft.market.orders
        with pytest.warns(IncompleteListWarning):
            listed = [order async for order in orders.list(limit=2)]
        assert [order.lines[0].status for order in listed] == ["new", "new"]
        assert (await orders.get_status(external_id="order_1")).status == "new"
        await orders.delete(external_id="nobody")
        report = await orders.import_orders(rows, skip_triggers=True)
        assert [str(outcome.state) for outcome in report.outcomes] == ["applied", "rejected"]
        assert report.outcomes[0].batch is not None
        assert report.outcomes[0].batch.answered_by_row
        with pytest.raises(APIError):
            await altcraft.market.skus.delete(external_ids=["nobody"])
    async with AltcraftClient(base_url, token="reader") as altcraft:
        assert (await altcraft.market.orders.get_status(external_id="order_1")).status == "new"
        with pytest.raises(APIError) as refused:
            await altcraft.market.orders.delete(external_id="order_1")
        assert refused.value.status == refused.value.code == 403
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert (command.directory / "state").exists()


@pytest.mark.parametrize("role", ["reader", "reader=boss", "=read"])
def test_a_role_that_is_none_is_refused(here: Here, role: str) -> None:
    ended = here("sandbox", "--role", role)
    assert ended.returncode == 1
    assert "--role" in ended.stderr
    assert "reader" not in ended.stderr


def test_every_reading_of_the_sandbox_is_an_option() -> None:
    assert {*attrs.fields_dict(Readings)} == {*_READINGS}


def test_sandbox_on_a_taken_port_is_refused(here: Here, sandbox: ThreadedSandbox) -> None:
    ended = here("sandbox", "--port", sandbox.base_url.rpartition(":")[2])
    assert ended.returncode == 1
    assert "give another one with --port" in ended.stderr


def test_sandbox_tells_what_it_assumes(here: Here) -> None:
    assert here("sandbox", "--assumptions").stdout.count("\n- ") > 5


def test_the_demo_reports_a_clean_ledger_as_json(here: Here) -> None:
    ended = here("demo", "--lines", "60", "--json", "--seed", "3", ALTCRAFT_TOKEN="", ALTCRAFT_BASE_URL="")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["ok"]
    assert report["lines"] == 60
    assert report["outcomes"] == report["updates"] == report["ledger"]["applied"] > 240
    assert report["retries"] > 0
    assert {report["ledger"][name] for name in ("lost", "duplicated", "reordered", "unexpected", "overlaps")} == {0}


def test_the_demo_ends_in_a_report_for_people(here: Here) -> None:
    ended = here("demo", "--lines", "20", "--faults", "none")
    assert ended.returncode == 0
    assert "Everything arrived, once and in order" in ended.stdout
    assert "no change was lost" in ended.stdout
    assert "\x1b" not in ended.stdout + ended.stderr

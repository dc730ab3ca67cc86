"""``sync`` on a hostile network: outages are waited out, and what stands in the way is named."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from hostile import FIREWALL_LINES, REDIRECT_TARGET, HostileServer, Weather, numbered_updates

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from conftest import CommandLine

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("untraced")]

UPDATES = numbered_updates(200, 3)
FIREWALLED = ("order_x", f"{FIREWALL_LINES}_x", "status_1")


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(slots=20, seconds=0.01) as running:
        yield running


@pytest.fixture
def sync(
    command: CommandLine, here: Callable[..., subprocess.CompletedProcess[str]], server: HostileServer
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``sync --json`` over updates, to the hostile server."""

    def run(updates: list[tuple[str, str, str]], *options: str) -> subprocess.CompletedProcess[str]:
        with (command.directory / "in.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["order_external_id", "order_line_external_id", "status_external_id"])
            writer.writerows(updates)
        place = {"ALTCRAFT_BASE_URL": server.base_url, "ALTCRAFT_TOKEN": server.token}
        return here("sync", "in.csv", "--json", *options, **place)

    return run


def states(ended: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return json.loads(ended.stdout)["states"]


@pytest.mark.parametrize(
    "weather",
    [
        Weather.BAD_GATEWAY,
        pytest.param(Weather.RESET, marks=pytest.mark.hostile),
        pytest.param(Weather.NOT_FOUND, marks=pytest.mark.hostile),
    ],
)
def test_an_outage_is_waited_out(server, sync, weather):
    server.plan(weather, after=100, seconds=2.0)
    ended = sync(UPDATES)
    assert ended.returncode == 0, ended.stderr
    assert set(states(ended)) <= {"applied", "duplicate"}
    assert set(map(tuple, server.ledger.statuses().values())) == {("status_1", "status_2", "status_3")}


def test_a_wrong_address_is_named_and_the_journal_goes_on_at_the_right_one(server, sync):
    server.switch(Weather.REDIRECT)
    ended = sync(UPDATES, "--journal", "run.journal")
    assert ended.returncode != 0
    assert REDIRECT_TARGET in ended.stderr
    assert "rejected" not in states(ended)
    assert len(server.ledger.arrivals) < 50
    server.switch(Weather.FAIR)
    ended = sync(UPDATES, "--journal", "run.journal")
    assert ended.returncode == 0, ended.stderr
    assert len(server.ledger.made) == len(UPDATES)


def test_a_firewalled_line_is_told_alone(server, sync):
    ended = sync([*UPDATES[:150], FIREWALLED, *UPDATES[150:]])
    assert ended.returncode == 2
    assert states(ended)["rejected"] == 1
    assert "firewall" in ended.stderr
    assert len(server.ledger.made) == len(UPDATES)

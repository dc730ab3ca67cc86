"""A service with an outbox is killed under load, again and again: no accepted update is lost, none is made twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from altcraft_async.sandbox import Faults, ThreadedSandbox

ROOT = Path(__file__).parents[2]
SERVICE = Path(__file__).with_name("outbox_service.py")
MOST = 20_000


def start(path: Path, sandbox: ThreadedSandbox, first: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SERVICE), str(path), sandbox.base_url, sandbox.token, str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.usefixtures("untraced")
@pytest.mark.processes
@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.chaos)])
def test_no_accepted_update_is_lost_made_twice_or_reordered(tmp_path: Path, kills: int) -> None:
    path, chance = tmp_path / "outbox.db", random.Random(7)
    settings = {"faults": Faults.mixed(0.1, latency=0.002), "seed": 3}
    with ThreadedSandbox(custom_statuses=[f"s{n}" for n in range(MOST)], **settings) as sandbox:
        sandbox.seed_orders(8)
        accepted: list[tuple[str, int]] = []
        for kill in range(kills + 1):
            service = start(path, sandbox, first=1 + max((number for _, number in accepted), default=0) + 8)
            assert service.stdout is not None
            assert service.stdin is not None
            lines = [service.stdout.readline()]  # it has begun to accept
            time.sleep(chance.uniform(0.05, 0.25))
            if kill < kills:
                service.kill()
                said, _ = service.communicate()
            else:
                said, _ = service.communicate("enough\n", timeout=60)
            lines += said.splitlines()
            *puts, last = [line for line in lines if line.strip()]
            if not last.startswith("left"):
                puts.append(last)
            accepted += [(line.split()[0], int(line.split()[1])) for line in puts if len(line.split()) == 2]
        assert last == "left 0 0"
        assert len(accepted) > 20 * kills
        for order in range(1, 9):
            changes = [int(c.status[1:]) for c in sandbox.ledger.changes(f"order_{order}", f"line_{order}_1")]
            mine = [number for line, number in accepted if line == str(order)]
            assert changes == sorted(set(changes)), "made twice, or out of order"
            assert set(mine) <= set(changes), "lost"
            arrivals = sandbox.ledger.arrivals(f"order_{order}", f"line_{order}_1")
            assert len({(arrival.status, arrival.request_id) for arrival in arrivals}) == len(changes), "two ids"

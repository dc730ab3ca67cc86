"""A bulk run through half an hour of outage, on a virtual clock.

``python tests/long_outage.py LINES`` tells how it was.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter, deque
from contextlib import aclosing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from altcraft_async import OutagePolicy
from virtual import Behaviour, SimulatedServer, VirtualLoop, simulated_client

OUTAGE = (5.0, 1805.0)
SETTLED = 10.0
"""When the calls that were in service at the beginning have ended, and the outage is known."""


class Server(SimulatedServer):
    """A server that counts the probes."""

    probes = 0

    def _refuse(self, answer, response):
        self.probes += asyncio.get_running_loop().time() > SETTLED
        super()._refuse(answer, response)


async def deliver(lines: int, *, refused: bool) -> dict[str, object]:
    """Send `lines` updates with the patience of an hour; return the states, and what was sent in the outage."""
    server = Server(Behaviour(jitter=0.5, outage=OUTAGE, refused=refused))
    server.counts.applied_at = deque(maxlen=1)  # the memory that is measured is the client's
    states: Counter[str] = Counter()
    async with simulated_client(server) as client:
        rows = ((f"order_{number // 4}", f"line_{number}", "delivered") for number in range(lines))
        outcomes = client.market.orders.stream_order_line_statuses(rows, outage=OutagePolicy(patience=3600.0))
        async with aclosing(outcomes):
            async for outcome in outcomes:
                states[str(outcome.state)] += 1
        left = len(client._engine.lanes) + client.statistics().in_flight + client.statistics().waiting
    return {
        "states": states,
        "sent": server.counts.sent,
        "probes": server.probes,
        "left": left,
        "elapsed": asyncio.get_running_loop().time(),
        "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        print(json.dumps(runner.run(deliver(int(sys.argv[1]), refused=sys.argv[2:] == ["refused"]))))  # noqa: T201

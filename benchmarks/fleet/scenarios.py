"""The servers, and what is measured of clients on them."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import attrs
from group import SimulatedGroup
from world import BUCKET, Behaviour, Client, Server, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.flow.limit import ConcurrencyLimit

__all__ = ["SERVERS", "Alone", "Fleet", "jain", "play_alone", "play_fleet"]

SLOW = {"latency": 0.4, "jitter": 0.5}

SERVERS: dict[str, Behaviour] = {
    "queue": Behaviour(),
    "queue-jitter": Behaviour(jitter=0.5),
    "reject": Behaviour(over_slots="reject"),
    "reject-jitter": Behaviour(over_slots="reject", jitter=0.5),
    "slow": Behaviour(latency=0.4, jitter=0.5),
    "halves": Behaviour(jitter=0.5, changes=((8.0, 25), (20.0, 50))),
    "halves-reject": Behaviour(jitter=0.5, over_slots="reject", changes=((8.0, 25), (20.0, 50))),
    "queue-timeout": Behaviour(jitter=0.5, patience=0.1),
    "rate": Behaviour(rate=100.0),
    "rate-jitter": Behaviour(rate=100.0, jitter=0.5),
    "rate-quick": Behaviour(rate=100.0, latency=0.01),
    "rate-retry-after": Behaviour(rate=100.0, retry_after=1.0),
    "rate-burst": Behaviour(rate=100.0, burst=20),
    "rate-strict": Behaviour(rate=100.0, burst=1),
    "rate-strict-jitter": Behaviour(rate=100.0, burst=2, jitter=0.5),
    "rate-seconds": Behaviour(rate=100.0, counts="windows"),
    "rate-sliding": Behaviour(rate=100.0, counts="sliding"),
    "knee": Behaviour(knee=10),
    "knee-steep": Behaviour(knee=10, steepness=1.5, jitter=0.5),
    "flaky": Behaviour(jitter=0.5, flaky=0.02),
    "flaky-fast": Behaviour(latency=0.02, jitter=0.5, flaky=0.05),
    "flaky-tenth": Behaviour(jitter=0.5, flaky=0.1),
    "flaky-fifth": Behaviour(jitter=0.5, flaky=0.2),
    "flaky-open": Behaviour(latency=0.02, jitter=0.5, flaky=0.05, slots=10_000),
    "flaky-reject": Behaviour(jitter=0.5, over_slots="reject", flaky=0.05),
    "outage-early": Behaviour(jitter=0.5, outage=(0.6, 4.6)),
    "outage-rejects": Behaviour(over_slots="reject", outage=(0.6, 4.6)),
    "outage-at-start": Behaviour(jitter=0.5, outage=(0.05, 4.05)),
    "outage": Behaviour(jitter=0.5, outage=(6.0, 18.0)),
}
FOUR_FORMS = ("queue", "queue-jitter", "reject", "reject-jitter")


def jain(shares: Sequence[float]) -> float:
    """Give Jain's index: 1.0 where all shares are equal, 1/n where one has all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def between(counts: dict[int, float] | dict[int, int], begin: float, end: float) -> float:
    """Add up the buckets between two times."""
    return sum(counts.get(bucket, 0) for bucket in range(round(begin / BUCKET), round(end / BUCKET)))


@attrs.frozen
class Alone:
    """One client: `goodput` of ideal, `throttled` of the sends, `peak` in flight, `settled` the peak once settled."""

    goodput: float
    throttled: float
    peak: int
    settled: int
    seconds: float
    late: float
    back: float | None = None


def ideal_of(behaviour: Behaviour, lines: int) -> float:
    """Give the seconds in which a client that knows the server makes `lines` calls; an outage counts."""
    done = float(behaviour.burst) if behaviour.rate is not None and behaviour.counts == "bucket" else 0.0
    now = 0.0
    while done < lines:
        away = behaviour.outage is not None and behaviour.outage[0] <= now < behaviour.outage[1]
        done += 0.0 if away else behaviour.capacity(now, now + 0.01)
        now += 0.01
    return now + (behaviour.latency if behaviour.rate is not None else 0.0)


def play_alone(
    behaviour: Behaviour, law: ConcurrencyLimit, *, lines: int = 10_000, seed: int = 0, most: float | None = None
) -> Alone:
    """Let one client make so many calls."""
    world = World()
    server = Server(world, behaviour, seed)
    client = Client(world, server, law, seed=seed, lines=lines, most=most)
    free = behaviour.slots >= 1000 and behaviour.rate is None
    ideal = lines * behaviour.latency / 256 / (1 - behaviour.flaky) if free else ideal_of(behaviour, lines)
    peaks = [0]
    world.at(ideal / 2, lambda: (peaks.append(server.peak), setattr(server, "peak", 0)))
    limit = 20 * ideal + 60
    world.run(limit, lambda: client.ended < math.inf)
    seconds = min(client.ended, limit)
    back = None
    if behaviour.outage is not None:
        end = behaviour.outage[1]
        before = behaviour.capacity(0.0, 1.0)
        back = next(
            (
                bucket * BUCKET - end
                for bucket in range(round(end / BUCKET), round((end + 30) / BUCKET))
                if between(client.accepted, bucket * BUCKET, bucket * BUCKET + 1.0) >= 0.9 * before
            ),
            math.inf,
        )
    late = sum(client.slow.values()) / max(1, client.done) / behaviour.latency
    return Alone(ideal / seconds, server.throttled / max(1, server.sent), max(*peaks, server.peak), server.peak,
                 seconds, late, back)  # fmt: skip


@attrs.frozen
class Fleet:
    """Several clients, over the time that all are there: shares of capacity, Jain's index, the smallest of fair shares.

    `late` is the latency against the unloaded one, `fair_after` the seconds until the last that joined has half of its
    share, `taken_after` those until the others use what the first to leave has left; `dip` the least of what was used
    meanwhile, by the second. `shares` are what each has of its fair share, in the order of joining, and `refusals`
    which part of its calls was throttled.
    """

    goodput: float
    jain: float
    smallest: float
    throttled: float
    late: float
    peak: float
    fair_after: float
    taken_after: float
    after_30: float
    shares: tuple[float, ...] = ()
    refusals: tuple[float, ...] = ()


def play_fleet(  # noqa: PLR0913 - a play
    behaviour: Behaviour, make: Callable[[], ConcurrencyLimit] | None, clients: int,
    *, seed: int = 0, seconds: float = 60.0, gap: tuple[float, float] = (0.3, 3.0), most: float | None = None,
    first_law: ConcurrencyLimit | None = None,
) -> Fleet:  # fmt: skip
    """Let clients join one after another, work side by side for `seconds`, and the first one leave.

    They are a group where `make` is None, and otherwise strangers with laws that it makes; `first_law` is that of the
    first.
    """
    world, chance = World(), Random(f"fleet {seed}")
    server = Server(world, behaviour, seed)
    joins = [0.0]
    for _ in range(clients - 1):
        joins.append(joins[-1] + chance.uniform(*gap))
    everybody = joins[-1]
    leaves = everybody + seconds
    group = SimulatedGroup(world, clients) if make is None else None
    laws = [make() for _ in joins] if make is not None else group.limits
    if first_law is not None:
        laws = [first_law, *laws[1:]]
    staff = [
        Client(
            world,
            server,
            law,
            seed=seed * 100 + number,
            joins=at,
            leaves=leaves if number == 0 else math.inf,
            most=most,
        )
        for number, (law, at) in enumerate(zip(laws, joins, strict=True))
    ]
    if group is not None:
        group.attach(staff)
    world.at(everybody + seconds / 4, lambda: setattr(server, "peak", 0))
    world.run(leaves)
    peak = server.peak
    world.run(leaves + 15.0)
    start = math.ceil(everybody / BUCKET) * BUCKET + 2.0
    capacity = behaviour.capacity(start, leaves)
    done = [between(one.accepted, start, leaves) for one in staff]
    each_refused = [between(one.throttled, start, leaves) for one in staff]
    refused = sum(each_refused)
    slow = sum(between(one.slow, start, leaves) for one in staff)
    fair = behaviour.capacity(0.0, 1.0) / clients
    last = staff[-1]

    def first(begin: float, enough: Callable[[float], bool]) -> float:
        ticks = range(math.ceil(begin / BUCKET), math.ceil((begin + 30.0) / BUCKET))
        return next((tick * BUCKET - begin for tick in ticks if enough(tick * BUCKET)), math.inf)

    fair_after = first(everybody, lambda at: between(last.accepted, at, at + 0.5) >= 0.5 * fair * 0.5)
    rest = staff[1:]
    taken = first(
        leaves, lambda at: sum(between(one.accepted, at, at + 0.5) for one in rest) >= 0.9 * fair * clients * 0.5
    )
    late30 = [between(one.accepted, everybody + 30.0, leaves) / max(1e-9, leaves - everybody - 30.0) for one in staff]
    return Fleet(
        goodput=sum(done) / capacity,
        jain=jain(done),
        smallest=min(done) * clients / max(1.0, sum(done)),
        throttled=refused / max(1.0, refused + sum(done)),
        late=slow / max(1.0, sum(done)) / behaviour.latency,
        peak=peak / behaviour.slots_at(leaves),
        fair_after=fair_after,
        taken_after=taken if clients > 1 else 0.0,
        after_30=min(late30) / fair if seconds > 30 else 0.0,
        shares=tuple(count * clients / capacity for count in done),
        refusals=tuple(no / max(1.0, no + yes) for no, yes in zip(each_refused, done, strict=True)),
    )

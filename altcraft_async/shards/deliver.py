"""Delivering one shard, anywhere: synchronous, with an event loop of its own."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

from altcraft_async.client import AltcraftClient
from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Shared
from altcraft_async.kinds import DEADLINE
from altcraft_async.settings import Settings
from altcraft_async.shards.copies import Copy, Counter, Job
from altcraft_async.shards.errors import ShardError, here_in_words, in_words
from altcraft_async.shards.plan import place_of, read_plan
from altcraft_async.shards.report import Known, read_report
from altcraft_async.storage.scratch import remove_dead, scratch

if TYPE_CHECKING:
    from altcraft_async.flow.limit import Adaptive
    from altcraft_async.shards.copies import Busy
    from altcraft_async.shards.plan import Plan
    from altcraft_async.shards.report import ShardReport
    from altcraft_async.storage.places import Place

__all__ = ["deliver_free_shard", "deliver_shard", "deliver_shard_here", "limits_of", "make_client"]

_SCRATCH: Final = "altcraft-shard-"


def deliver_shard(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    *,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    deadline: float | None = None,
    busy: Busy = "wait",
) -> ShardReport:
    """Deliver one shard of a directory to its end, or go on with it, and return its report.

    A function for any engine's workers: synchronous, with an event loop of its own, and picklable with all its
    arguments and results. Address, token and all other settings come from the worker's own environment, or from the
    files that it names (``ALTCRAFT_TOKEN_FILE``, ``ALTCRAFT_CONFIG``); a token is no argument, so that it is in no
    pickle. If the environment has no address, the plan's target is taken.

    `concurrency` and `rate` take precedence over the settings; `Shared` among ``"shards"`` is a total for all that
    deliver shards of this directory, among ``"host"`` for this machine. `retry_failed` sends the failed rows of a done
    shard again, once: not those that another copy has sent again meanwhile. Its report and its file of failed rows are
    withdrawn before, and written anew at the end, also if a later copy without `retry_failed` reaches that. `deadline`
    is in seconds, and also ends the waiting for another copy, or for a part of a total; rows that it cuts off are sent
    next time.

    A done shard is not sent again: its report is returned. The journal is kept on this machine's disk while it runs,
    with a snapshot in the directory every 10 seconds and at the end. After a death another copy goes on: it sends the
    rows that the snapshot misses again, under the same ids. If the snapshot is damaged, or older than the platform
    remembers ids, a warning of the logger ``altcraft_async.shards`` says so. What a killed copy left on the disk is
    removed by the next one of this user on the same host. If the directory takes no last snapshot, the journal is kept
    here, and the error says where; the next copy on this machine goes on with it. If another copy is at work, or takes
    over from this one, `busy` says what to do: ``"wait"`` until it has ended or counts as dead, ``"fail"`` with
    `ShardBusyError` (or with a report that says so, if this copy had begun), or ``"join"``: send the same beside it.
    That is harmless if the platform recognises repeats; if it does not, changes are made twice.

    Returns a `ShardReport` even if the shard has not come to its end (a refused token, an outage beyond all patience,
    the deadline): then the shard is ``stopped``, or ``running`` if another copy is at work, with the ``problem``.
    Raises `ShardError` if the directory or the shard cannot be used, and `ConfigurationError` for settings that cannot
    work. An interruption is passed on when a last snapshot is written, which another interruption does not cut off;
    while that takes long, the logger ``altcraft_async.shards`` says which process is at it. Within a running event loop
    await `deliver_shard_here` instead; this raises `RuntimeError` there.
    """
    if _is_within_a_loop():
        msg = "deliver_shard has an event loop of its own, and one is running here: await deliver_shard_here instead"
        raise RuntimeError(msg)
    delivery = deliver_shard_here(
        directory,
        number,
        concurrency=concurrency,
        rate=rate,
        retry_failed=retry_failed,
        deadline=deadline,
        busy=busy,
    )
    return asyncio.run(delivery)


def _is_within_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def deliver_shard_here(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    *,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
    deadline: float | None = None,
    busy: Busy = "wait",
) -> ShardReport:
    """Deliver one shard in the running event loop; see `deliver_shard`.

    A cancellation is passed on when a last snapshot is written, however often this is cancelled.
    """
    if busy not in {"wait", "fail", "join"}:
        msg = f"busy must be 'wait', 'fail' or 'join', not {busy!r}"
        raise ConfigurationError(msg, field="busy")
    DEADLINE.or_none().check("deadline", deadline)
    given = limits_of(concurrency, rate)
    ends_at = None if deadline is None else time.monotonic() + deadline
    return await _deliver(
        directory, number, given, busy=busy, again=busy == "wait", retry_failed=retry_failed, ends_at=ends_at
    )


def deliver_free_shard(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    known: Known,
    *,
    concurrency: int | Adaptive | Shared | None = None,
    rate: float | Shared | None = None,
    retry_failed: bool = False,
) -> ShardReport:
    """Deliver one shard as `deliver_shard` does, for one who has others to deliver meanwhile.

    Raises `ShardBusyError` while another copy is at work, also where that takes over from this one. `known` is what the
    caller knows of the shard.
    """
    given = limits_of(concurrency, rate)
    delivery = _deliver(directory, number, given, known, busy="fail", again=True, retry_failed=retry_failed)
    return asyncio.run(delivery)


def limits_of(concurrency: int | Adaptive | Shared | None, rate: float | Shared | None) -> dict[str, Any]:
    """Return what is given of a client's limits; raises `ConfigurationError` for what cannot work for shards."""
    given: dict[str, Any] = {"concurrency": concurrency, "rate": rate}
    given = {name: value for name, value in given.items() if value is not None}
    _check_members(Settings(**given))
    return given


def _check_members(settings: Settings) -> None:
    for name in ("concurrency", "rate"):
        value = getattr(settings, name)
        if isinstance(value, Shared) and value.among == "drainers":  # nobody would say which part of it is whose
            msg = (
                f"{name} is a total among the drainers of an outbox, and shards have none; give a number, or a total "
                f"among the processes that deliver them (--{name}-total, Shared({value.total:g}, among='shards'))"
            )
            raise ConfigurationError(msg, field=name)


async def _deliver(  # noqa: PLR0913 - what can be said of a delivery, by keyword
    directory: str | os.PathLike[str],
    number: int,
    given: dict[str, Any],
    known: Known | None = None,
    *,
    busy: Busy,
    again: bool,
    retry_failed: bool,
    ends_at: float | None = None,
) -> ShardReport:
    """Deliver one shard; `again` says that this goes on where another copy has taken over and ended."""
    place = place_of(directory)
    plan = await asyncio.to_thread(read_plan, place)
    number = plan.check_number(number, place.address)
    with in_words(place.address, number):
        if known is None:
            known = Known(done=await asyncio.to_thread(read_report, place, plan, number))
        job = Job(place, plan, number, known, retry_failed, ends_at)
        done = await asyncio.to_thread(job.done)
        if done is not None:
            return done
        await asyncio.to_thread(remove_dead, _SCRATCH)
        while True:
            counter = Counter()
            client = make_client(place, plan, observers=(counter,), **given)
            with scratch(_SCRATCH) as folder:
                copy = Copy(job, client, counter, folder)
                with here_in_words(folder, place.address, job.number):
                    told = await copy.run(busy)
            if not (again and copy.taken_over):
                return told


def make_client(place: Place, plan: Plan, **given: Any) -> AltcraftClient:
    """Make the client by this process's own environment; raises `ShardError` if it is not for the plan's target."""
    client = AltcraftClient.from_env(plan.environ(os.environ), **given)
    _check_members(client.settings)
    if plan.target not in {None, client.base_url}:
        msg = (
            f"the plan in {place.address} is for {plan.target}, and the settings are for {client.base_url}; change one"
        )
        raise ShardError(msg, directory=place.address)
    return client

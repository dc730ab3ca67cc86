"""Pieces of work that come together are done together."""

from __future__ import annotations

import asyncio

import pytest

from altcraft_async.outbox.grouped import Grouped
from altcraft_async.storage.postgres import Failure, Fate


async def test_what_comes_while_a_group_is_done_shares_the_next_in_its_order():
    groups, began, go_on = [], asyncio.Event(), asyncio.Event()

    async def work(pieces):
        groups.append(list(pieces))
        began.set()
        await go_on.wait()

    grouped = Grouped(work)
    tasks = [asyncio.create_task(grouped.do(0))]
    await began.wait()
    tasks += [asyncio.create_task(grouped.do(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*tasks)
    assert groups == [[0], [1, 2, 3]]


async def test_more_are_gathered_after_a_group_of_several_and_one_alone_waits_for_nobody(monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async def work(pieces):
        del pieces

    monkeypatch.setattr(asyncio, "sleep", sleep)
    grouped = Grouped(work)
    for number in range(3):
        await grouped.do(number)
    assert slept == []
    await asyncio.gather(grouped.do(1), grouped.do(2))
    await grouped.aclose()
    (seconds,) = slept
    assert 0.0 <= seconds <= 0.008


async def test_a_group_that_is_refused_is_done_one_by_one():
    done = []

    async def work(pieces):
        if "bad" in pieces:
            said = "no"
            raise Failure(said, Fate.REFUSED)
        done.extend(pieces)

    grouped = Grouped(work)
    results = await asyncio.gather(*(grouped.do(piece) for piece in ("a", "bad", "b")), return_exceptions=True)
    assert done == ["a", "b"]
    assert [isinstance(result, Failure) for result in results] == [False, True, False]


async def test_a_group_whose_end_is_not_known_is_never_done_again():
    groups = []

    async def work(pieces):
        groups.append(list(pieces))
        said = "lost"
        raise Failure(said, Fate.LOST)

    grouped = Grouped(work)
    results = await asyncio.gather(*(grouped.do(piece) for piece in "ab"), return_exceptions=True)
    assert groups == [["a", "b"]]
    assert all(isinstance(result, Failure) for result in results)


async def test_work_that_breaks_leaves_nobody_waiting():
    async def work(pieces):
        raise ValueError(pieces)

    with pytest.raises(Failure, match="ValueError"):
        await Grouped(work).do("a")

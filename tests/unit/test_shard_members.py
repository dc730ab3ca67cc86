"""A member of a total: what it lets its client use, when it was silent and when it comes back."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("pyarrow")
from altcraft_async.shards import members
from altcraft_async.shards.members import Members
from altcraft_async.storage.places import Place


class Client:
    """Remembers each part that it was given."""

    def __init__(self) -> None:
        self.parts: list[float | None] = []

    def take_part(self, part: float | None) -> bool:
        self.parts.append(part)
        return True


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(monotonic=lambda: now.at, time=time.time, at=0.0)
    monkeypatch.setattr(members, "time", now)
    monkeypatch.setattr(members, "_TICK", 0.001)
    monkeypatch.setattr(members, "_left", {})
    return now


def publish(place, beat, part):
    said = {"beat": beat, "at": 0.0, "holds": part, "claims": part}
    place.write("_altcraft/members/other.json", json.dumps(said).encode())


async def test_a_member_that_was_suspended_uses_no_part_that_others_have_by_now(tmp_path, clock):
    place, client = Place(tmp_path), Client()
    publish(place, 1, 0.5)
    member = Members(place, client)
    await member.join()
    assert client.parts[-1] == 0.5
    clock.at += 14.0
    client.parts.clear()
    publish(place, 2, 1.0)
    for _ in range(3):
        await member._tick()
        clock.at += 1.0
    assert set(client.parts[1:]) == {None}, "the first was what it used until then"
    publish(place, 3, 0.5)
    await member._tick()
    assert client.parts[-1] == 0.5
    member._fence.cancel()


async def test_a_member_that_could_not_look_uses_its_part_only_after_it_has_given_a_sign(tmp_path, clock):
    place, client = Place(tmp_path), Client()
    member = Members(place, client)
    await member.join()
    assert client.parts[-1] == 1.0
    clock.at += 5.0
    client.parts.clear()
    member._use(0.0)  # as its timer does
    await member._tick()
    assert client.parts == [None, None, 1.0]
    member._fence.cancel()


async def test_the_part_of_a_shard_long_ago_is_claimed_anew(tmp_path, clock):
    place, client = Place(tmp_path), Client()
    first = Members(place, client)
    await first.join()
    first.leave()
    clock.at += 60.0
    publish(place, 1, 1.0)
    client.parts.clear()
    member = Members(place, client)
    await member.join(0.0)
    assert client.parts == [None, None]
    assert len(place.sizes("_altcraft/members")) == 2, "under its old name"
    member._fence.cancel()


async def test_a_member_without_a_part_uses_one_permit_after_a_while_also_where_nothing_can_be_read(
    tmp_path, clock, monkeypatch
):
    place, client = Place(tmp_path), Client()
    member = Members(place, client)
    await member.join()
    member._fence.cancel()
    member._use(0.0)  # as its timer does

    def away(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Place, "sizes", away)
    for ahead, part in ((19.0, None), (2.0, 0.0)):
        clock.at += ahead
        await member._tick()
        assert client.parts[-1] == part


async def test_a_member_whose_look_lasts_uses_one_permit_after_a_while(tmp_path, monkeypatch):
    for name, seconds in (("_FENCED", 0.05), ("_PATIENCE", 0.2), ("_TICK", 0.01)):
        monkeypatch.setattr(members, name, seconds)
    monkeypatch.setattr(members, "_left", {})
    client = Client()
    member = Members(Place(tmp_path), client)
    await member.join()
    async with asyncio.timeout(5.0):
        while client.parts[-1] != 0.0:  # noqa: ASYNC110 - it is a timer's
            await asyncio.sleep(0.01)
    assert client.parts[-2:] == [None, 0.0]

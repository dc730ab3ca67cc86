"""Which shards are handed out, in which order, when busy ones are asked for again, and with which part of a total."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest

from altcraft_async import AltcraftClient, ConfigurationError, OutcomeState, Shared
from altcraft_async.flow.parts import Part
from altcraft_async.shards import ShardError
from altcraft_async.shards.lease import SILENT, Holder, Progress, Watched, silence_of
from altcraft_async.shards.members import Members
from altcraft_async.shards.report import Known, ShardReport, ShardsReport, ShardState
from altcraft_async.shards.window import TURN, Fate, Queue, hand_out, options_of, raise_first
from altcraft_async.storage.places import Place


@pytest.fixture
def here() -> Holder:
    return Holder.own("run")


@pytest.fixture
def elsewhere(here: Holder) -> Holder:
    return attrs.evolve(here, host="elsewhere")


def test_a_total_among_shards_is_divided_by_the_window() -> None:
    everybody = {"concurrency": Shared(64, among="shards"), "rate": Shared(100, among="shards")}
    assert options_of(10, **everybody, retry_failed=False) == {"concurrency": 6, "rate": 10.0, "retry_failed": False}


@pytest.mark.parametrize("concurrency", [None, 8, Shared(64)])
def test_other_limits_are_each_shards_own(concurrency: Any) -> None:
    assert options_of(10, concurrency, None, retry_failed=True)["concurrency"] is concurrency


def test_a_window_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="window must be a whole number above zero, not 0"):
        options_of(0, None, None, retry_failed=False)
    with pytest.raises(ConfigurationError, match="5 for all, and 10 shards at once need one each; lower window"):
        options_of(10, Shared(5, among="shards"), None, retry_failed=False)


def test_a_limit_that_cannot_work_is_refused_before_a_task_begins() -> None:
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number above zero"):
        options_of(10, 0, None, retry_failed=False)


def test_what_several_shards_say_is_told_once() -> None:
    with pytest.raises(ShardError, match="same") as raised:
        raise_first([ShardError(said) for said in ("same", "same", "other", "same", "other")])
    assert raised.value.__notes__ == ["other"]


def test_a_copy_lives_while_its_sign_of_life_changes(elsewhere: Holder) -> None:
    watched = Watched()
    assert watched.lives(elsewhere, 0.0)
    assert watched.lives(elsewhere, SILENT - 1)
    assert not watched.lives(elsewhere, SILENT + 1)
    later = attrs.evolve(elsewhere, at=elsewhere.at + 1)
    assert watched.lives(later, SILENT + 2)
    assert not watched.lives(attrs.evolve(later, ended=True), SILENT + 3)
    assert not watched.lives(None, 0.0)


def test_a_copy_of_this_host_is_gone_with_its_process(here: Holder, elsewhere: Holder) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = ended.pid
    assert attrs.evolve(here, pid=dead).is_gone()
    assert not attrs.evolve(elsewhere, pid=dead).is_gone(), "a number means nothing on another host"
    assert not here.is_gone()
    assert not attrs.evolve(here, pid=1).is_gone()


@pytest.mark.parametrize("ahead", [-86400, 120])
def test_a_copy_lives_whatever_the_clock_of_its_machine_says(elsewhere: Holder, ahead: float) -> None:
    holder = attrs.evolve(elsewhere, at=time.time() + ahead)
    assert not holder.is_gone()
    assert Watched().lives(holder, 0.0)


def test_the_machines_of_one_name_are_told_apart_by_their_boot(here: Holder) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        pytest.skip("no Linux")
    assert boot.read_text().strip() in here.space


def test_a_copy_that_was_silent_for_long_when_it_was_seen_first_is_dead_at_once(elsewhere: Holder) -> None:
    assert Watched().lives(elsewhere, 0.0, SILENT - 1)
    watched = Watched()
    assert not watched.lives(elsewhere, 0.0, SILENT + 1)
    assert watched.lives(attrs.evolve(elsewhere, at=elsewhere.at + 1), 1.0, SILENT + 1), "it says something now"


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    pytest.importorskip("fsspec")
    return Place(tmp_path if request.param == "file" else f"memory://window-{time.monotonic_ns()}")


def test_the_silence_of_a_copy_elsewhere_is_by_the_clock_of_the_file_system(
    elsewhere: Holder, here: Holder, place: Place, tmp_path: Path
) -> None:
    elsewhere.write(place, 0, Progress())
    assert 0 <= silence_of(place, 0, elsewhere) < SILENT
    assert silence_of(place, 0, here) == silence_of(place, 1, elsewhere) == 0.0
    lease = tmp_path / "_altcraft" / "00000.lease.json"
    if lease.exists():
        then = lease.stat().st_mtime - 100
        os.utime(lease, (then, then))
        assert 99 < silence_of(place, 0, elsewhere) < 100 + SILENT


def test_the_members_of_a_total_see_each_other_whatever_their_clocks_say(place: Place) -> None:
    member = "_altcraft/members/other.json"
    said = {"beat": 1, "at": time.time() + 86400, "holds": 3.0, "claims": 3.0}
    place.write(member, json.dumps(said).encode())
    members = Members(place, AltcraftClient("http://127.0.0.1", "token", allow_insecure=True))
    assert members._others() == {"other": Part(3.0, 3.0)}
    assert place.sizes("_altcraft/members") == {"other.json": len(json.dumps(said))}


def test_the_file_of_a_member_that_died_long_ago_is_removed(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    place, member = Place(tmp_path), "_altcraft/members/other.json"
    place.write(member, json.dumps({"beat": 1, "at": time.time(), "holds": 3.0, "claims": 3.0}).encode())
    then = time.time() - 1000
    os.utime(tmp_path / member, (then, then))
    members = Members(place, AltcraftClient("http://127.0.0.1", "token", allow_insecure=True))
    assert members._others() == {}
    assert not place.sizes("_altcraft/members")


def test_a_report_of_all_shards_sums_theirs() -> None:
    well = ShardReport(0, ShardState.DONE, "a", 3, {"applied": 3})
    failed = ShardReport(1, ShardState.DONE, "b", 2, {"applied": 1, "rejected": 1})
    waiting = ShardReport(2, ShardState.WAITING, "c", 4, {})
    found = ShardsReport("d", "plan", [well, failed, waiting])
    assert (found.rows, found.counts[OutcomeState.APPLIED], found.unfinished) == (9, 4, [2])
    assert (found.ok, found.complete) == (False, False)
    assert (well.ok, failed.ok, failed.complete) == (True, False, True)
    assert found.numbers(ShardState.DONE) == [0, 1]
    assert found.to_dict()["counts"]["rejected"] == 1
    assert Progress().told() == {
        "counts": {}, "sent": 0, "retries": 0, "throttled": 0, "elapsed": 0.0, "problem": None,
    }  # fmt: skip


class Clock:
    """A clock that moves where it is moved, or slept by."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def looks_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list into which the numbers come whose leases are looked at."""
    looks: list[int] = []
    usual = Holder.read.__func__  # type: ignore[attr-defined]

    def read(cls: type[Holder], place: Place, number: int) -> Holder | None:
        looks.append(number)
        return usual(cls, place, number)  # type: ignore[no-any-return]

    monkeypatch.setattr(Holder, "read", classmethod(read))
    return looks


def test_busy_shards_are_left_until_no_other_is_free(place: Place, elsewhere: Holder, clock: Clock) -> None:
    elsewhere.write(place, 0, Progress())
    queue = Queue(place.address, dict.fromkeys([0, 1, 2]), clock)
    assert queue.take() == (0, Known())
    queue.put_back(0, Fate.BUSY)
    assert [queue.take(), queue.take(), queue.take()] == [(1, Known()), (2, Known()), None]
    assert len(queue) == 1
    elsewhere.write(place, 0, Progress(), ended=True)
    clock.sleep(TURN)
    assert queue.take() == (0, Known(Holder.read(place, 0).sign))  # type: ignore[union-attr]
    assert not queue


def test_a_shard_over_which_a_worker_died_is_the_next(place: Place, clock: Clock) -> None:
    queue = Queue(place.address, dict.fromkeys([0, 1, 2]), clock)
    queue.take()
    queue.put_back(0, Fate.DIED)
    assert [queue.take(), queue.take()] == [(0, Known()), (1, Known())]
    queue.put_back(1, Fate.ENDED)
    assert len(queue) == 1


def test_leases_are_looked_at_once_in_a_turn_however_often_a_shard_is_asked_for(
    place: Place, elsewhere: Holder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Queue(place.address, dict.fromkeys([0, 1]), clock)
    for number in (0, 1):
        elsewhere.write(place, number, Progress())
        queue.take()
        queue.put_back(number, Fate.BUSY)
    looks = looks_of(monkeypatch)
    for _ in range(3):
        assert [queue.take() for _ in range(10)] == [None] * 10
        clock.sleep(TURN)
    assert looks == [0, 1] * 3


def test_a_busy_shard_is_free_when_its_holder_has_died_where_files_have_no_times(
    place: Place, elsewhere: Holder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.write(place, 0, Progress())
    monkeypatch.setattr(Place, "ages", lambda *_: {})
    queue = Queue(place.address, dict.fromkeys([0]), clock)
    queue.take()
    queue.put_back(0, Fate.BUSY)
    assert queue.take() is None
    clock.sleep(SILENT - 1)
    assert queue.take() is None
    clock.sleep(2)
    assert queue.take() == (0, Known(Holder.read(place, 0).sign))  # type: ignore[union-attr]


def test_a_shard_whose_lease_cannot_be_read_stays_with_its_holder(
    place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(place.address, dict.fromkeys([0]), clock)
    queue.take()
    queue.put_back(0, Fate.BUSY)

    def read(*_: object) -> Holder | None:
        msg = "the store is away"
        raise OSError(msg)

    with monkeypatch.context() as away:
        away.setattr(Holder, "read", read)
        assert queue.take() is None
    assert "who delivers shard 0 of" in caplog.text
    clock.sleep(TURN)
    assert queue.take() == (0, Known())


class Scripted:
    """Tasks that end at once, each with the next answer of its shard."""

    def __init__(self, **answers: list[Fate | ShardError]) -> None:
        self.answers = {int(name.removeprefix("n")): list(said) for name, said in answers.items()}
        self.begun: list[int] = []
        self.at_once: list[int] = []

    def begin(self, number: int, known: object) -> tuple[int, int]:
        del known
        self.begun.append(number)
        return number, len(self.begun)

    def wait(self, tasks: Any, seconds: float) -> Any:
        del seconds
        self.at_once.append(len(tasks))
        return tasks[:1]

    def answer(self, number: int, task: tuple[int, int]) -> Fate | ShardError:
        assert task[0] == number
        return self.answers[number].pop(0)


def test_shards_are_handed_out_within_the_window_until_all_have_ended(place: Place, clock: Clock) -> None:
    tasks = Scripted(n0=[Fate.ENDED], n1=[Fate.DIED, Fate.ENDED], n2=[Fate.ENDED])
    seen: list[list[int]] = []
    told = lambda numbers: seen.append(list(numbers))  # noqa: E731
    assert hand_out(Queue(place.address, dict.fromkeys([0, 1, 2]), clock), tasks, 2, told, sleep=clock.sleep) == []
    assert (tasks.begun, max(tasks.at_once)) == ([0, 1, 2, 1], 2)
    assert seen[0] == [0, 1]


def test_an_error_of_one_shard_does_not_end_the_others(place: Place, clock: Clock) -> None:
    problem = ShardError("the first")
    tasks = Scripted(n0=[problem], n1=[Fate.ENDED], n2=[ShardError("the second")])
    assert hand_out(Queue(place.address, dict.fromkeys([0, 1, 2]), clock), tasks, 1, sleep=clock.sleep)[0] is problem
    assert tasks.begun == [0, 1, 2]


def test_the_error_of_the_first_shard_has_those_of_the_others_as_notes() -> None:
    raise_first([])
    with pytest.raises(ShardError, match="the first") as caught:
        raise_first([ShardError("the first"), ShardError("the second"), ShardError("the third")])
    assert caught.value.__notes__ == ["the second", "the third"]


def test_who_has_only_busy_shards_sleeps_a_turn_between_two_looks(
    place: Place, elsewhere: Holder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.write(place, 0, Progress())
    tasks = Scripted(n0=[Fate.BUSY, Fate.ENDED], n1=[Fate.ENDED])
    looks, slept = looks_of(monkeypatch), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.sleep(seconds)
        if len(slept) == 5:
            elsewhere.write(place, 0, Progress(), ended=True)

    assert hand_out(Queue(place.address, dict.fromkeys([0, 1]), clock), tasks, 4, sleep=sleep) == []
    assert tasks.begun == [0, 1, 0]
    assert (slept, looks) == ([TURN] * 5, [0] * 6)

"""Groups of real processes: they share one limit, and nothing that happens to the file or to a member stops anybody."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from altcraft_async import AltcraftClient, Settings
from altcraft_async.engine.group import Group, group_name
from altcraft_async.engine.sharing import names_of
from altcraft_async.flow.adaptive import AdaptiveLimit
from altcraft_async.flow.limit import Adaptive, LearnedLimit, Shared, Signal
from altcraft_async.flow.share import CallEnded, GroupLimit, Load, Role
from altcraft_async.flow.total import SharedTotal
from altcraft_async.storage import slots
from altcraft_async.storage.directories import runtime_directory, state_directory
from altcraft_async.storage.slots import SlotFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="groups need fcntl")
TOKEN = "0123456789abcdef0123456789abcdef"
HELD = """
import sys, time
from pathlib import Path
from altcraft_async.flow.share import Report
from altcraft_async.storage.slots import SlotFile
file = SlotFile.claim(Path(sys.argv[1]), "group")
print(file.slot, flush=True)
while True:
    file.tell(time.monotonic(), Report(1, 1, True), {})
    time.sleep(0.05)
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("ALTCRAFT_LIMIT_GROUP")
    return tmp_path / "altcraft_async"


def group(name="group"):
    return Group(GroupLimit(AdaptiveLimit(Adaptive(initial=40))), lambda: name)


@contextlib.contextmanager
def holding(directory):
    """Run another process that holds a slot and tells of itself."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(directory)], stdout=subprocess.PIPE, text=True)
    process.slot = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def other(directory):
    with holding(directory) as process:
        yield process


def until(found, condition, seconds=10.0):
    """Tick until something holds; say how long it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + seconds, "it did not come"
        found.tick(time.monotonic(), Load(1, waiting=False))
        time.sleep(0.02)
    return time.monotonic() - begin


def test_two_groups_of_one_process_see_each_other_and_one_leads(directory):
    first, second = group(), group()
    now = 100.0
    first.enter(now)
    first.tick(now, Load(5, waiting=True))
    second.enter(now)
    assert second.limit.role is Role.FOLLOWING  # before its first call but one
    for step in range(1, 8):
        second.tick(now + step * 0.1, Load(1, waiting=True))
        first.tick(now + step * 0.1, Load(5, waiting=True))
    assert (first.limit.role, second.limit.role) == (Role.LEADING, Role.FOLLOWING)
    assert first.limit.limit + second.limit.limit == 40
    assert abs(first.limit.limit - second.limit.limit) <= 1
    first.close()
    second.close()


def test_what_a_member_saw_comes_to_the_leaders_law(directory):
    first, second = group(), group()
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(5, waiting=True))
        second.tick(100.05 + step * 0.1, Load(5, waiting=True))
    for call in range(1200):
        second.limit.on_result(100.5 + call * 1e-4, 0.1, Signal.SUCCESS, 5, "update")
    second.tick(100.65, Load(5, waiting=True))
    first.tick(100.7, Load(5, waiting=True))
    assert first.limit.law.statistics().accepted == 1000  # what the ring holds; older ones are lost
    first.close()
    second.close()


def test_a_leader_that_rests_is_followed_by_another_with_its_limit(directory):
    first, second = group(), group()
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(5, waiting=True))
        second.tick(100.05 + step * 0.1, Load(5, waiting=True))
    first.rest()
    second.tick(100.6, Load(5, waiting=True))
    assert second.limit.law.limit == 40
    assert second.limit.role is not Role.FOLLOWING
    first.close()
    second.close()


def test_a_process_that_is_killed_is_noticed_within_half_a_second(directory, other):
    mine = group()
    until(mine, lambda: mine.processes == 2)
    other.kill()
    other.wait()
    assert until(mine, lambda: mine.processes == 1) < 0.8
    mine.close()


def test_a_process_that_is_stopped_is_not_reckoned_with_until_it_goes_on(directory, other):
    mine = group()
    until(mine, lambda: mine.processes == 2)
    other.send_signal(signal.SIGSTOP)
    assert until(mine, lambda: mine.processes == 1) < 2.5
    other.send_signal(signal.SIGCONT)
    until(mine, lambda: mine.processes == 2)
    mine.close()


def test_the_slot_of_a_killed_process_is_used_again(directory, other):
    other.kill()
    other.wait()
    file = SlotFile.claim(directory, "group")
    assert file.slot == other.slot
    file.close()


def test_what_the_last_member_ended_with_is_remembered_by_half(directory):
    first = group()
    first.limit.law = AdaptiveLimit.started_at(100.0, LearnedLimit(120))
    first.limit.stay_alone()
    first.tick(100.0, Load(5, waiting=True))
    first.close()
    later = group()
    later.enter(200.0)
    assert later.limit.limit == 60
    later.close()


def test_what_was_cut_short_while_it_still_looked_is_not_remembered(directory):
    first = group()
    first.tick(100.0, Load(5, waiting=True))
    first.close()
    later = group()
    later.enter(200.0)
    assert later.limit.limit == 40
    later.close()


def test_a_run_that_follows_at_once_remembers_too(directory):
    first = group()
    first.limit.law = AdaptiveLimit.started_at(100.0, LearnedLimit(120))
    first.limit.stay_alone()
    first.tick(100.0, Load(5, waiting=True))
    first.close()
    later = group()
    later.enter(100.5)
    later.tick(100.6, Load(5, waiting=True))
    assert later.limit.limit == 60
    later.close()


def test_a_file_from_before_a_restart_of_the_host_is_no_group(directory):
    first = group()
    first.tick(1e9, Load(5, waiting=True))  # a clock that counts from the start of the host was further then
    first.close()
    later = group()
    later.enter(10.0)
    later.tick(10.1, Load(5, waiting=True))
    assert later.limit.role is Role.ALONE
    later.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_a_fork_has_no_part_in_the_group(directory):
    mine = group()
    mine.tick(100.0, Load(5, waiting=True))
    child = os.fork()
    if not child:
        mine.tick(100.1, Load(5, waiting=True))
        mine.close()
        os._exit(0 if mine.limit.role is Role.ALONE else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mine.tick(100.2, Load(5, waiting=True))
    assert SlotFile.claim(directory, "group").slot == 1  # the parent has its own still
    mine.close()


def spoil_by_link(directory):
    directory.parent.joinpath("elsewhere").mkdir()
    directory.symlink_to(directory.parent / "elsewhere")


def spoil_by_mode(directory):
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)


def spoil_by_file(directory):
    directory.write_text("")


def spoil_by_garbage(directory):
    directory.mkdir(mode=0o700)
    path = directory / "group.limit"
    path.write_bytes(b"\xff" * 100_000)
    path.chmod(0o600)


def spoil_by_linked_file(directory):
    directory.mkdir(mode=0o700)
    (directory / "group.limit").symlink_to(directory.parent / "other")


@pytest.mark.parametrize("spoil", [spoil_by_link, spoil_by_mode, spoil_by_file, spoil_by_linked_file, spoil_by_garbage])
def test_a_directory_or_file_that_is_not_the_users_own_means_no_group_and_no_error(directory, spoil):
    spoil(directory)
    mine = group()
    mine.enter(100.0)
    for step in range(3):
        mine.tick(100.0 + step * 0.1, Load(5, waiting=True))
    assert mine.limit.role is Role.ALONE
    assert mine.limit.limit == 40
    mine.rest()
    mine.close()


def test_a_file_that_can_no_longer_be_written_means_that_the_member_goes_on_alone(directory):
    mine = group()
    mine.tick(100.0, Load(5, waiting=True))
    os.close(mine._file._file.descriptor)
    mine._file._file.descriptor = os.open("/dev/null", os.O_RDONLY)
    mine.tick(100.1, Load(5, waiting=True))
    assert mine.limit.role is Role.ALONE
    mine.tick(100.2, Load(5, waiting=True))


def test_a_leader_that_cannot_give_shares_any_more_goes_on_alone_with_its_own(directory, monkeypatch):
    first, second = group(), group()
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(20, waiting=True))
        second.tick(100.05 + step * 0.1, Load(20, waiting=True))
    monkeypatch.setattr(SlotFile, "lead", lambda *_: False)  # the disk is full
    first.tick(100.5, Load(20, waiting=True))
    assert (first.limit.role, first.limit.limit) == (Role.ALONE, 20)
    monkeypatch.undo()
    second.close()


def test_members_come_together_again_in_a_file_that_was_removed_and_made_again(directory):
    mine = group()
    mine.tick(time.monotonic(), Load(1))
    next(directory.iterdir()).unlink()
    mine.tick(time.monotonic(), Load(1))  # nobody has made another yet
    mine.rest()
    with holding(directory):
        until(mine, lambda: mine.processes == 2)
    mine.close()


def test_a_limit_that_is_larger_than_the_file_can_say_is_no_error(directory):
    first, second = (Group(SharedTotal(Shared(10.0**11)), lambda: "group") for _ in range(2))
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(5, waiting=True))
        second.tick(100.05 + step * 0.1, Load(5, waiting=True))
    assert min(first.limit.limit, second.limit.limit) > 2**30
    first.close()
    second.close()


def test_the_variable_turns_groups_off(directory, monkeypatch):
    monkeypatch.setenv("ALTCRAFT_LIMIT_GROUP", "off")
    mine = group()
    mine.enter(100.0)
    mine.tick(100.0, Load(5, waiting=True))
    assert not directory.exists()


def test_the_name_tells_nothing_and_is_another_for_another_address_or_token():
    names = {
        group_name("https://a.example", TOKEN, "64 None"),
        group_name("https://b.example", TOKEN, "64 None"),
        group_name("https://a.example", "x", "64 None"),
        group_name("https://a.example", TOKEN, "65 None"),
    }
    assert len(names) == 4
    assert not any(TOKEN in name or "example" in name for name in names)


def test_only_those_that_set_the_same_are_one_group():
    settings = (
        Adaptive(),
        Adaptive(maximum=16),
        Adaptive(minimum=2),
        Adaptive(initial=9),
        Adaptive(headroom=1.5),
        Shared(64),
    )
    names = [names_of(Settings(concurrency=each)) for each in settings]
    assert len({name for (name,) in names}) == len(settings)
    assert names_of(Settings(concurrency=Adaptive(headroom=2))) == names_of(
        Settings(concurrency=Adaptive(headroom=2.0))
    )
    assert names_of(Settings(rate=Shared(100))) == names_of(Settings(rate=Shared(100.0)))  # as the environment gives it
    assert names_of(Settings(concurrency=4)) == names_of(Settings(group=None)) == []


async def test_a_client_with_other_settings_is_a_stranger_within_its_own(directory):
    first, second = (
        AltcraftClient("http://127.0.0.1:1", TOKEN, concurrency=concurrency)
        for concurrency in (Adaptive(initial=2, maximum=4), Adaptive(minimum=15, initial=15))
    )
    gates = [each._engine.gate for each in (first, second)]
    for step in range(5):
        for gate in gates:
            gate.groups[0].tick(100.0 + step * 0.1, Load(2, waiting=True))
    assert [gate.groups[0].limit.limit for gate in gates] == [2, 15]
    await first.aclose()
    await second.aclose()


ODD = [math.nan, math.inf, -math.inf, -1.0, 1e308, 1e-300]
MOST = Adaptive().maximum


def written(directory, offset, data):
    descriptor = os.open(directory / "group.limit", os.O_RDWR)
    os.pwrite(descriptor, data, offset)
    os.close(descriptor)


def word(at, rate=0.0, limit=20, leader=1, members=2):
    stamp = int(at * 1000) & 0xFFFFFFFF if abs(at) < 1e12 else 5
    return slots._WORD.pack(slots._MAGIC, stamp, leader << 8 | members, at, rate, limit, 1, stamp)


@pytest.mark.parametrize(
    "spoiled",
    [
        *(word(50.0, rate=odd) for odd in ODD),
        *(word(at) for at in (math.nan, math.inf, -math.inf, 1e308)),
        *(word(50.0, limit=limit) for limit in (0, MOST + 1, 0xFFFFFFFF)),
        word(50.0, leader=200),
    ],
)
def test_a_word_with_a_number_that_cannot_be_is_as_if_it_were_not_there(directory, spoiled):
    group().enter(1.0)
    written(directory, 0, spoiled)
    mine = group()
    mine.enter(100.0)
    mine.tick(100.1, Load(5, waiting=True))
    assert (mine.limit.role, mine.limit.limit, mine.limit.rate) == (Role.ALONE, 40, None)
    mine.close()


@pytest.mark.parametrize(
    ("place", "odd"),
    [
        ("per_second", math.nan),  # infinite is who lacks nothing but pace
        *((place, odd) for place in ("paused", "resumed", "pace", "at") for odd in (math.nan, math.inf, 1e308)),
    ],
)
def test_a_head_with_a_number_that_cannot_be_is_as_if_it_were_not_there(directory, place, odd):
    mine = group()
    mine.enter(100.0)
    told = {"at": 100.1, "per_second": 1.0, "paused": -math.inf, "resumed": -math.inf, "pace": 0.0} | {place: odd}
    head = slots._HEAD.pack(
        1, 1, told["at"], 5, 5, 1, told["per_second"], told["paused"], told["resumed"], told["pace"], 0, 0, 1
    )
    written(directory, slots._HEADS + 5 * slots._HEAD_SIZE, head)
    mine.tick(100.15, Load(5, waiting=True))
    assert (mine.processes, mine.limit.role, mine.paused_until) == (1, Role.ALONE, -math.inf)
    mine.close()


@pytest.mark.parametrize(
    ("limit", "rate", "paused"),
    [*((5, odd, -math.inf) for odd in ODD), (5, 0.0, math.nan), (5, 0.0, 1e308), (0xFFFFFFFF, 0.0, -math.inf)],
)
def test_a_share_with_a_number_that_cannot_be_is_as_if_it_were_not_there(directory, limit, rate, paused):
    first, second = group(), group()
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(5, waiting=True))
        second.tick(100.05 + step * 0.1, Load(5, waiting=True))
    before = second.limit.limit
    stamp = int(second._file.word().at * 1000) & 0xFFFFFFFF
    share = slots._SHARE.pack(stamp, limit, rate, paused, 0, stamp)
    written(directory, slots._SHARES + second._file.slot * slots._SHARE_SIZE, share)
    second.tick(100.5, Load(5, waiting=True))
    assert (second.limit.limit, second.limit.rate, second.paused_until) == (before, None, -math.inf)
    first.close()
    second.close()


def test_a_call_with_a_time_that_cannot_be_is_not_told_to_the_law(directory):
    first, second = group(), group()
    for step in range(5):
        first.tick(100.0 + step * 0.1, Load(5, waiting=True))
        second.tick(100.05 + step * 0.1, Load(5, waiting=True))
    for at, latency in ((math.nan, 0.1), (1e300, 0.1), (100.5, math.nan), (100.5, math.inf), (100.5, 0.1)):
        second.limit._calls.append(CallEnded(at, latency, Signal.SUCCESS, "update"))
    second.tick(100.55, Load(5, waiting=True))
    first.tick(100.6, Load(5, waiting=True))
    assert first.limit.law.statistics().accepted == 1
    first.close()
    second.close()


def test_the_directory_is_of_the_runtime_and_else_of_the_state(tmp_path):
    assert runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path), "HOME": "/h"}) == tmp_path / "altcraft_async"
    assert runtime_directory({"XDG_STATE_HOME": "/state", "HOME": "/h"}) == Path("/state/altcraft_async")
    assert runtime_directory({"HOME": "/h"}) == Path("/h/.local/state/altcraft_async")
    assert runtime_directory({}) is None


def test_a_runtime_directory_that_is_not_there_is_not_made(tmp_path):
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run" / "1"), "HOME": "/h"}
    assert runtime_directory(environ) == Path("/h/.local/state/altcraft_async")


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "XDG_STATE_HOME", "HOME"])
def test_a_relative_path_in_a_variable_is_ignored(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("run").mkdir()
    assert runtime_directory({name: "run"}) is None
    assert state_directory({name: "run"}) is None


SERVER = """
import asyncio, json
from aiohttp import web
served = 0
async def handle(request):
    global served
    sent = json.loads(await request.read())
    if served >= 20:
        return web.json_response({"error": 429, "error_text": "too many"}, status=429)
    served += 1
    await asyncio.sleep(0.1)
    served -= 1
    return web.json_response({"error": 0, "error_text": "", **{key: sent[key] for key in sent if key.endswith("_id")}})
async def main():
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


SETTLED = 10
"""Tenths of a second after the last has joined, by when the slots are shared."""


@pytest.mark.processes
@pytest.mark.slow
def test_three_processes_share_the_slots_of_a_real_server(directory):
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    base_url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    worker = Path(__file__).parents[1] / "limit_group.py"
    try:
        for _ in range(3):  # another program of the machine can slow one of them down
            served = served_by_three(worker, base_url)
            if served and sum(served) ** 2 / (3 * sum(count**2 for count in served)) >= 0.95:
                return
        pytest.fail(f"the shares are {served}")
    finally:
        server.kill()
        server.communicate()


def served_by_three(worker: Path, base_url: str) -> list[int]:
    """Let three processes send for a while; what each was served once all were there, nothing where they never were."""
    processes = [
        subprocess.Popen([sys.executable, str(worker), base_url, TOKEN, "4"], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    seen = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    if [one["processes"] for one in seen] != [3, 3, 3]:
        return []
    begin = max(min(map(int, one["served"])) for one in seen) + SETTLED  # tenths of a second: all are there
    return [sum(count for tenth, count in one["served"].items() if int(tenth) >= begin) for one in seen]

"""Any order of answers, failures, cancellations, crashes and new runs: a simple model holds for all of them.

The real engine and journal run against a platform that the machine answers for, request by request. A crash
is what a kill leaves: the files as they are on disk at that moment, and a platform that may or may not have
taken what was under way.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import defaultdict
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from altcraft_async import AltcraftClient, ConnectionLostError, JournalError, OutcomeState, RetryPolicy
from altcraft_async.journal import JournalReader
from altcraft_async.protocol.wire import WireResponse

LINES = ("a", "b", "c")
POLICY = RetryPolicy(attempts=2, base=0.0001, max_delay=0.0002)
KINDS = st.sampled_from(["yes", "no", "error", "lost", "lost before"])


def index_of(request_id: str) -> int:
    return int(request_id[-9:], 16)


class Platform:
    """Parks every request until the machine answers it, and keeps what was changed. A `Transport`."""

    def __init__(self) -> None:
        self.parked: dict[str, tuple[str, asyncio.Future[WireResponse]]] = {}
        self.applied: dict[str, list[str]] = defaultdict(list)
        self.refused: set[str] = set()
        self.seen: dict[int, set[str]] = defaultdict(set)

    async def send(self, request, *, connect, total, max_bytes, fresh=False):
        del connect, total, max_bytes, fresh
        request_id, line = request.headers["Request-ID"], json.loads(request.body)["order_line_external_id"]
        assert line not in {other for other, _ in self.parked.values()}, "two updates of one line at once"
        self.seen[index_of(request_id)].add(request_id)
        future = asyncio.get_running_loop().create_future()
        self.parked[request_id] = (line, future)
        try:
            return await future
        finally:
            self.parked.pop(request_id, None)

    async def aclose(self):
        pass

    def answer(self, request_id: str, kind: str) -> None:
        line, future = self.parked.pop(request_id)
        known = request_id in self.applied[line]
        if kind in {"yes", "lost"} and not known and request_id not in self.refused:
            self.applied[line].append(request_id)
        if future.done():
            return
        if kind.startswith("lost"):
            future.set_exception(ConnectionLostError("cut"))
        elif kind == "error":
            future.set_result(WireResponse(500, {}, b'{"error": 500, "error_text": ""}'))
        elif request_id in self.applied[line]:
            headers = {"Duplicate-Request": "true"} if known else {}
            future.set_result(WireResponse(200, headers, b'{"error": 0, "error_text": ""}'))
        else:
            self.refused.add(request_id)
            future.set_result(WireResponse(200, {}, b'{"error": 400, "error_text": "no"}'))


class JournalMachine(RuleBasedStateMachine):
    """The machine; its model is the platform's own record and the input."""

    @initialize(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=14), width=st.integers(1, 3))
    def begin(self, lines, width):
        self.folder = Path(tempfile.mkdtemp(prefix="journal-machine-"))
        self.files = 0
        self.path = self.folder / "0.journal"
        self.updates = [("order", line, f"s{number}") for number, line in enumerate(lines)]
        self.width = width
        self.runner = asyncio.Runner()
        self.platform = Platform()
        self.task = None

    # -- the run

    async def _run(self, **options):
        client = AltcraftClient(
            "https://platform.test",
            "token",
            transport=self.platform,
            concurrency=self.width,
            retry=POLICY,
            retry_budget=None,
        )
        async with client:
            stream = client.market.orders.stream_order_line_statuses(self.updates, journal=self.path, **options)
            async with aclosing(stream):
                async for _ in stream:
                    pass

    async def _start(self, **options):
        self.task = asyncio.create_task(self._run(**options))
        await self._settle()

    async def _settle(self):
        """Let the run come to rest: until requests are parked, or it has ended; commits come from a thread."""
        for _ in range(300):
            await asyncio.sleep(0.001)
            if self.task.done() or len(self.platform.parked) >= min(self.width, self._open_lines()):
                break
        if self.task.done():
            self.task.result()
            self.task = None

    def _open_lines(self):
        ended = self._recorded()
        return max(1, len({line for number, (_, line, _) in enumerate(self.updates) if number not in ended}))

    def _recorded(self):
        try:
            with JournalReader(self.path) as reader:
                return {outcome.index: outcome for outcome in reader.outcomes()}
        except JournalError:  # the run has not got so far; one that cannot be read is met by the next run
            return {}

    @precondition(lambda self: self.task is None)
    @rule(retry=st.booleans())
    def run(self, retry):
        self.runner.run(self._start(retry_failed=retry))

    @precondition(lambda self: self.task is not None and self.platform.parked)
    @rule(data=st.data(), kind=KINDS)
    def answer(self, data, kind):
        async def answer():
            self.platform.answer(data.draw(st.sampled_from(sorted(self.platform.parked))), kind)
            await self._settle()

        self.runner.run(answer())

    @precondition(lambda self: self.task is not None)
    @rule(kind=KINDS)
    def cancel(self, kind):
        self.runner.run(self._end(kind))

    async def _end(self, kind):
        task, self.task = self.task, None
        task.cancel()
        while not task.done():
            for request_id in sorted(self.platform.parked):
                self.platform.answer(request_id, kind)
            await asyncio.sleep(0.0005)
        assert task.cancelled() or not task.exception()

    @precondition(lambda self: self.task is not None)
    @rule(taken=st.booleans())
    def crash(self, taken):
        self.files += 1
        left = self.folder / f"{self.files}.journal"
        for suffix in ("", "-wal"):
            if Path(f"{self.path}{suffix}").exists():
                shutil.copyfile(f"{self.path}{suffix}", f"{left}{suffix}")
        self.runner.run(self._end("lost" if taken else "lost before"))
        self.path = left

    # -- the model

    @invariant()
    def changes_of_a_line_keep_the_order_of_the_input(self):
        for ids in getattr(self, "platform", Platform()).applied.values():
            indices = [index_of(request_id) for request_id in ids]
            assert indices == sorted(set(indices)), "made twice, or out of order"

    @invariant()
    def a_change_has_a_second_id_only_after_a_refusal(self):
        platform = getattr(self, "platform", Platform())
        for ids in platform.seen.values():
            assert len(ids - platform.refused) <= 1

    def teardown(self):
        if not hasattr(self, "platform"):
            return
        try:
            self.runner.run(self._finish())
            with JournalReader(self.path) as reader:
                assert reader.summary().finished
            made = {index_of(request_id) for ids in self.platform.applied.values() for request_id in ids}
            for index, outcome in self._recorded().items():
                if outcome.ok and outcome.state is not OutcomeState.SUPERSEDED:
                    assert index in made
                if outcome.state is OutcomeState.REJECTED:
                    assert index not in made
            self.changes_of_a_line_keep_the_order_of_the_input()
            assert len(self._recorded()) == len(self.updates)
        finally:
            self.runner.close()
            shutil.rmtree(self.folder)

    async def _finish(self):
        if self.task is None:
            await self._start()
        while self.task is not None:
            for request_id in sorted(self.platform.parked):
                self.platform.answer(request_id, "yes")
            await self._settle()


COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much]}


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
class TestJournal(JournalMachine.TestCase):
    settings = settings(max_examples=4, stateful_step_count=20, **COMMON)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
class TestJournalForSeconds(JournalMachine.TestCase):
    settings = settings(max_examples=10, stateful_step_count=20, **COMMON)


@pytest.mark.chaos
class TestJournalForLong(JournalMachine.TestCase):
    settings = settings(max_examples=400, stateful_step_count=40, **COMMON)

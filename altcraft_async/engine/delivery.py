"""The delivery of one call, end to end: attempts, verdicts, retries.

The first attempt runs bare; only when it asks for a retry is tenacity brought
in to drive the rest, with every decision taken by `altcraft_async.flow.retry`.
A call that waits between attempts holds no permit of the gate.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING

import attrs

from altcraft_async.engine.history import Attempt, History
from altcraft_async.errors import (
    AttemptTimeoutError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    RetryBudgetError,
    TransportError,
    UnreadableResponseError,
    api_error,
)
from altcraft_async.flow.limit import Signal
from altcraft_async.flow.retry import Retry, RetryPolicy, Stop, StopReason, decide, parse_retry_after
from altcraft_async.protocol.verdict import TABLE, Evidence

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    import tenacity

    from altcraft_async.engine.credentials import Credentials
    from altcraft_async.engine.gate import Gate
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.transport import Transport
    from altcraft_async.flow.retry import RetryBudget
    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import Call, Reply

__all__ = ["Delivery", "Totals"]

_MIN_ATTEMPT = 0.001
"""An attempt with less time than this before the deadline is not begun: it could only be cut off."""


@attrs.define
class Totals:
    """What a client, or one run, has sent so far; `last_success` is a time of the event loop."""

    sent: int = 0
    retries: int = 0
    throttled: int = 0
    last_success: float | None = None


_SUCCESSES = {evidence: TABLE[evidence] for evidence in (Evidence.SUCCESS, Evidence.DUPLICATE_SUCCESS)}
_FAILED_SENDS = (
    (ConnectError, TABLE[Evidence.NEVER_SENT]),
    (AttemptTimeoutError, TABLE[Evidence.TIMEOUT]),
    (TransportError, TABLE[Evidence.LOST]),
    (UnreadableResponseError, TABLE[Evidence.UNREADABLE]),
)


@attrs.define(eq=False)
class Delivery:
    """Delivers calls for one client; see the module.

    `gate`, `transport`, `budget` and `totals` are shared with the client's copies.
    `base_url` is the platform's address, for telling where requests go, and
    `dedup_window` how many seconds the platform remembers a ``Request-ID``.
    """

    credentials: Credentials
    transport: Transport
    gate: Gate
    budget: RetryBudget
    policy: RetryPolicy
    connect_timeout: float
    total_timeout: float
    max_response_bytes: int
    notifier: Notifier | None = None
    base_url: str = ""
    totals: Totals = attrs.field(factory=Totals)
    dedup_window: float = 86_400.0
    random: Random = attrs.field(factory=Random, repr=False)

    def call(
        self, call: Call, *, request_id: str, subject: str, deadline: float | None = None
    ) -> Coroutine[None, None, Mapping[str, JSON]]:
        """Deliver one call ahead of bulk ones and return its envelope.

        `deadline` is in seconds from now and covers waiting, attempts and
        backoff. Raises the `DeliveryError` that says why it did not succeed.
        Cancellation drops the attempt under way, which the server may have taken.
        """
        history = History(request_id, subject)
        if self.notifier is None:
            return self._deliver(call, history, deadline)
        return self._observed(call, history, deadline, self.notifier)

    async def _observed(
        self, call: Call, history: History, deadline: float | None, notifier: Notifier
    ) -> Mapping[str, JSON]:
        clock = asyncio.get_running_loop().time
        notifier.call_started(call, history, clock())
        try:
            payload = await self._deliver(call, history, deadline)
        except BaseException as error:
            notifier.call_ended(history, error, clock())
            raise
        notifier.call_ended(history, None, clock())
        return payload

    async def _deliver(self, call: Call, history: History, deadline: float | None) -> Mapping[str, JSON]:
        loop = asyncio.get_running_loop()
        if loop is not self.gate.loop:
            self.gate.bind(loop)
        until = None if deadline is None else loop.time() + deadline
        stop = await self._first(call, history, until)
        if stop is None and history.last is not None and history.last.verdict.retry:
            stop = await self.retry(call, history, deadline=until, bulk=False)
        error = self.failure(history, stop)
        if error is not None:
            raise error
        return history.last.payload if history.last is not None else {}

    async def _first(self, call: Call, history: History, until: float | None) -> Stop | None:
        if not self.gate.try_acquire() and not await self._acquire(until, bulk=False):
            return Stop(StopReason.DEADLINE)
        try:
            return await self.attempt(call, history, deadline=until)
        finally:
            self.gate.release()

    async def _acquire(self, until: float | None, *, bulk: bool) -> bool:
        """Wait for a permit, until the deadline at most; say whether there is one."""
        if until is None:
            await self.gate.acquire(bulk=bulk)
            return True
        try:
            async with asyncio.timeout_at(until):
                await self.gate.acquire(bulk=bulk)
        except TimeoutError:
            return False
        return True

    async def attempt(
        self, call: Call, history: History, *, deadline: float | None, totals: Totals | None = None
    ) -> Stop | None:
        """Make one attempt, with a permit that the caller holds, and note it in `history`.

        Returns a `Stop` when the deadline left no time to begin it. Never raises
        for what the server or the network did.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        total = self.total_timeout
        if deadline is not None and (left := deadline - started) < total:
            if left < _MIN_ATTEMPT:
                return Stop(StopReason.DEADLINE)
            total = left
        wire = self.credentials.wire or await self.credentials.ready()
        request = wire.encode(call, history.request_id)
        history.attempts += 1
        if history.attempts == 1 and history.facts is None:
            history.started = started
        notifier = self.notifier
        if notifier is not None:
            notifier.attempt_started(call, history, started)
        status = 0
        history.in_flight = True
        try:
            try:
                response = await self.transport.send(
                    request, connect=self.connect_timeout, total=total, max_bytes=self.max_response_bytes
                )
            except DeliveryError as error:
                last = self._failed_send(error)
            else:
                status = response.status
                last = self._judge(wire.decode(response))
        except BaseException as error:
            history.maybe_applied = history.maybe_applied or isinstance(error, asyncio.CancelledError)
            if notifier is not None:
                notifier.attempt_ended(history, clock() - started, status, error)
            raise
        history.in_flight = False  # not where it was cut short: then it tells so
        now = clock()
        history.last = last
        self._account(last, history, now, now - started, totals)
        if notifier is not None:
            notifier.attempt_ended(history, now - started, status, last.error, throttled=last.verdict.throttled)
        return None

    def _failed_send(self, error: DeliveryError) -> Attempt:
        if isinstance(error, ConnectionLostError) and not error.maybe_applied:
            return Attempt(TABLE[Evidence.NEVER_SENT], {}, error)
        for kind, verdict in _FAILED_SENDS:
            if isinstance(error, kind):
                return Attempt(verdict, {}, error)
        raise error

    def _judge(self, reply: Reply) -> Attempt:
        evidence = self.policy.rules.evidence(status=reply.status, code=reply.code, duplicate=reply.duplicate)
        success = _SUCCESSES.get(evidence)
        if success is not None:
            return Attempt(success, reply.payload)
        verdict = TABLE[evidence]
        retry_after = parse_retry_after(reply.retry_after, now=time.time()) if reply.retry_after else None
        error: DeliveryError
        if evidence is Evidence.UNREADABLE and reply.problem is not None:
            error = reply.problem
        else:
            error = api_error(
                status=reply.status,
                code=reply.code,
                text=reply.text,
                duplicate=reply.duplicate,
                retry_after=retry_after,
                maybe_applied=verdict.maybe_applied,
            )
        return Attempt(verdict, {}, error, retry_after)

    def _account(self, last: Attempt, history: History, now: float, latency: float, totals: Totals | None) -> None:
        """Tell the flow laws and the totals how an attempt ended."""
        verdict = last.verdict
        if last.error is None:
            self.totals.last_success = now
            self.budget.on_success()
            signal = Signal.SUCCESS
        else:
            history.maybe_applied = history.maybe_applied or verdict.maybe_applied
            signal = Signal.OVERLOAD if verdict.throttled else Signal.NEUTRAL
        if isinstance(last.error, ConnectError):
            history.hopeless = self.gate.record_unreachable(now)
        else:
            self.gate.record(now, latency, signal)
        retried = history.attempts > 1
        for count in (self.totals, totals) if totals is not None else (self.totals,):
            count.sent += 1
            count.retries += retried
            count.throttled += verdict.throttled
        if verdict.throttled and last.retry_after is not None:
            self.gate.pause(min(last.retry_after, self.policy.max_retry_after))

    async def retry(
        self, call: Call, history: History, *, deadline: float | None, bulk: bool, totals: Totals | None = None
    ) -> Stop:
        """Make the further attempts of a call whose attempt asked for one; say why they ended.

        Holds no permit while it waits. When cancelled, `history` tells how far it came.
        """
        import tenacity  # noqa: PLC0415 - most programs never retry, and none should import slower for it

        clock = asyncio.get_running_loop().time
        decision: Retry | Stop = Stop(StopReason.FINAL)

        def another(state: tenacity.RetryCallState) -> bool:
            nonlocal decision
            last = history.last
            stopped = state.outcome.result() if state.outcome is not None else None
            if stopped is not None or last is None or history.halted:
                decision = stopped or Stop(StopReason.FINAL)
                return False
            decision = decide(
                last.verdict,
                attempts=history.attempts,
                hopeless=history.hopeless,
                now=clock(),
                deadline=deadline,
                retry_after=last.retry_after,
                policy=self.policy,
                budget=self.budget,
                random=self.random.random(),
            )
            if isinstance(decision, Retry) and self.notifier is not None:
                self.notifier.retry_planned(history, decision.delay, last.error)
            return isinstance(decision, Retry)

        first = True

        async def once() -> Stop | None:
            nonlocal first
            if first:  # the attempt already made; tenacity starts from its verdict
                first = False
                return None
            if not self.gate.try_acquire() and not await self._acquire(deadline, bulk=bulk):
                return Stop(StopReason.DEADLINE)
            try:
                return await self.attempt(call, history, deadline=deadline, totals=totals)
            finally:
                self.gate.release()

        retrying = tenacity.AsyncRetrying(
            retry=another,
            wait=lambda _: decision.delay if isinstance(decision, Retry) else 0.0,
            stop=tenacity.stop_never,
            sleep=asyncio.sleep,
            reraise=True,
        )
        await retrying(once)
        return decision if isinstance(decision, Stop) else Stop(StopReason.FINAL)

    def failure(self, history: History, stop: Stop | None) -> DeliveryError | None:
        """Give the signed error with which a call ends, or None for a success."""
        last = history.last
        if last is not None and last.error is None:
            return None
        cause = None if last is None else last.error
        error = cause
        if cause is None or (stop is not None and stop.reason in {StopReason.DEADLINE, StopReason.BUDGET}):
            kind = RetryBudgetError if stop is not None and stop.reason is StopReason.BUDGET else DeadlineError
            said = "no attempt could finish before the deadline" if stop is None else stop.reason.value
            error = kind(said if cause is None else f"{said}; the last attempt: {cause.message}")
            error.__cause__ = cause
        return None if error is None else history.sign(error)

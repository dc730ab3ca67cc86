"""The delivery of one call: attempts, verdicts, retries.

The first attempt runs bare; only when it asks for a retry is tenacity brought
in to drive the rest, with every decision taken by `altcraft_async.flow.retry`.
A call that waits between attempts holds no permit of the gate.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING, Final

import attrs
import tenacity  # with the first client: an import in the first retry needs an open file, and there may be none

from altcraft_async.engine.gate import NO_PERMIT
from altcraft_async.engine.work import Attempt, BatchItem, Phase
from altcraft_async.errors import (
    AltcraftError,
    AttemptTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    NotSentError,
    OutageError,
    RetryBudgetError,
    RunStoppedError,
    TransportError,
    UnreadableResponseError,
    api_error,
)
from altcraft_async.flow.outage import OutageState
from altcraft_async.flow.retry import Retry, RetryPolicy, Stop, StopReason, decide
from altcraft_async.protocol.answer import another_line, confirms, echo_of, line_named, row_results
from altcraft_async.protocol.methods import BY_PATH, Repeat
from altcraft_async.protocol.retry_after import parse_retry_after
from altcraft_async.protocol.states import OutcomeState
from altcraft_async.protocol.values import LineKey
from altcraft_async.protocol.verdict import TABLE, Evidence, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.engine.carrier import Transport
    from altcraft_async.engine.credentials import Credentials
    from altcraft_async.engine.gate import Gate
    from altcraft_async.engine.notifier import Notifier
    from altcraft_async.engine.questions import Questions
    from altcraft_async.engine.work import Patience, RowResult, WorkItem
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.flow.retry import RetryBudget
    from altcraft_async.protocol.answer import RowSaid
    from altcraft_async.protocol.values import LineStatusUpdate
    from altcraft_async.protocol.verdict import Verdict
    from altcraft_async.protocol.wire import Format, Reply, Wire, WireRequest, WireResponse

__all__ = ["Delivery", "Totals"]

_MIN_ATTEMPT: Final = 0.001
"""An attempt with less time than this before the deadline is not begun: it could only be cut off."""
_REASKED_AT_MOST: Final = 3
"""How often a call is asked again at once, for an answer that was not its own or is not to be believed yet."""

_UNPROVEN: Final = "the answer does not say that it is this line's, and a connection has just brought unasked bytes"
_STRANGE: Final = (TABLE[Evidence.FOREIGN], TABLE[Evidence.UNREADABLE])
"""Answers that are not the API's: where nothing else has ever come, the address is wrong."""
# named once: a look at a member through its class is slow before Python 3.12
_BETWEEN, _IN_FLIGHT, _NEITHER = Phase.BETWEEN, Phase.IN_FLIGHT, Scope.NEITHER
_SUCCESS, _DUPLICATE_SUCCESS = TABLE[Evidence.SUCCESS], TABLE[Evidence.DUPLICATE_SUCCESS]
_CLEAR: Final = OutageState.CLEAR
_NO_ROOM, _RENEWED = TABLE[Evidence.NO_ROOM], TABLE[Evidence.RENEWED]


@attrs.define
class Totals:
    """What a client, or one run, has sent so far.

    `last_success` is a time of the event loop; `problem` is what was wrong with the last
    attempt, where it was not served.
    """

    sent: int = 0
    retries: int = 0
    throttled: int = 0
    last_success: float | None = None
    problem: str | None = None

    def count(self, item: WorkItem, verdict: Verdict) -> None:
        """Count the attempt of an item that has just ended."""
        self.sent += 1
        self.retries += item.attempts > 1
        self.throttled += verdict.scope is Scope.LOAD


@attrs.define(eq=False)
class Delivery:
    """Delivers calls for one client; see the module.

    `transport`, `gate`, `budget`, `questions` and `totals` are shared with the client's
    copies. `base_url` is the platform's address, for telling where requests go,
    `dedup_window` how many seconds the platform remembers a ``Request-ID``, and
    `request_format` the one that the credentials' wires write.
    """

    credentials: Credentials
    transport: Transport
    gate: Gate
    budget: RetryBudget
    questions: Questions
    policy: RetryPolicy
    outage: OutagePolicy
    connect_timeout: float
    total_timeout: float
    max_response_bytes: int
    notifier: Notifier | None = None
    base_url: str = ""
    totals: Totals = attrs.field(factory=Totals)
    dedup_window: float = 86_400.0
    request_format: Format = "json"
    random: Random = attrs.field(factory=Random, repr=False)

    # -- attempts

    async def attempt(self, item: WorkItem, totals: Totals | None = None) -> Stop | None:
        """Make one attempt, with a permit that the caller holds, and note it in the item.

        An answer that is not to be believed is asked for again at once, on a fresh
        connection and under the same id, which costs no attempt. Returns a `Stop` when the
        deadline left no time to begin. Never raises for what the server or the network did.
        """
        clock = asyncio.get_running_loop().time
        while True:
            wire = self.credentials.wire
            assert wire is not None  # noqa: S101 - who has a permit has a token
            token_number = self.credentials.changes
            started = clock()
            total = item.timeout or self.total_timeout
            if item.expires_at is not None or item.lease is not None or item.token_number is not None:
                left = self._time_for(item, token_number, started, total)
                if isinstance(left, Stop):
                    return left
                total = left
            request = wire.encode(item.call, item.request_id)
            self._begin(item, started)
            lease = item.lease
            if lease is not None:
                lease.in_flight += 1
            try:
                last, status = await self._exchange(item, wire, request, total)
            except BaseException as error:
                self._cut_off(item, clock() - started, error)
                raise
            finally:
                if lease is not None:
                    lease.in_flight -= 1
            item.phase = _BETWEEN  # not where it was cut short: then it tells so
            item.last = last
            now = clock()
            self._account(item, last, started, now, totals)
            if self.notifier is not None:
                throttled = last.verdict.throttled
                self.notifier.attempt_ended(item, now - started, status, last.error, throttled=throttled)
            _remember_token(item, token_number)
            if not self._asks_at_once(item):
                return None
            item.reasked += 1
            item.unpaid += 1

    def _asks_at_once(self, item: WorkItem) -> bool:
        """Say whether the answer must be asked for again, now; where others fail too, that is for the outage to say."""
        within = item.fresh and item.reasked < _REASKED_AT_MOST and not item.spent
        return within and self.gate.outage.state is _CLEAR and self.credentials.wire is not None

    @staticmethod
    def _time_for(item: WorkItem, token_number: int, now: float, total: float) -> float | Stop:
        """Give the seconds, `total` at most, that an attempt with a token may take, or why none may be made."""
        if item.token_number is not None and item.token_number != token_number:
            item.doubt()  # also where only an earlier run made the call
            return Stop(StopReason.RENEWED)
        if item.expires_at is not None and (left := item.expires_at - now) < total:
            if left < _MIN_ATTEMPT:
                return Stop(StopReason.DEADLINE)
            total = left
        if item.lease is not None and (left := item.lease.left()) < total:
            if left < _MIN_ATTEMPT:
                return Stop(StopReason.LEASE)
            total = left
        return total

    def _begin(self, item: WorkItem, now: float) -> None:
        item.attempts += 1
        if item.attempts == 1 and item.facts is None:
            item.started = now
        if item.update is not None:
            self.questions.ask(item.update)
        if self.notifier is not None:
            self.notifier.attempt_started(item, now)
        item.phase = _IN_FLIGHT

    def _cut_off(self, item: WorkItem, elapsed: float, error: BaseException) -> None:
        if not isinstance(error, AltcraftError):  # one of those says that nothing was sent
            item.doubt()
        if self.notifier is not None:
            self.notifier.attempt_ended(item, elapsed, 0, error)

    async def _exchange(self, item: WorkItem, wire: Wire, request: WireRequest, total: float) -> tuple[Attempt, int]:
        """Send the request and judge what comes; return the HTTP status with it, 0 without an answer."""
        try:
            response = await self.transport.send(
                request,
                connect=self.connect_timeout,
                total=total,
                max_bytes=self.max_response_bytes,
                fresh=item.fresh or item.once,  # a kept connection may make a request go out twice
            )
        except AltcraftError as error:
            if isinstance(error, UnreadableResponseError):
                error.retry_after = wire.clean(error.retry_after) or None
            return self._failed_send(error), 0
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._failed_send(_odd(error)), 0  # what the transport awaits was cancelled elsewhere
        except Exception as error:  # noqa: BLE001 - a carrier of somebody else's: who knows what went out
            return self._failed_send(_odd(error)), 0
        if response.resent:
            item.doubt()
        if response.unasked:
            self.questions.distrust(asyncio.get_running_loop().time())
        reply = wire.decode(response)
        if reply.code == 0:
            return self._believed(item, wire, reply, response), response.status
        return self._judge(item, wire, reply, response), response.status

    def _failed_send(self, error: AltcraftError) -> Attempt:
        if isinstance(error, ConnectError | ConnectionLostError) and not error.maybe_applied:
            local = isinstance(error, ConnectError) and error.local
            return Attempt(TABLE[Evidence.NO_ROOM if local else Evidence.NEVER_SENT], {}, error)
        if isinstance(error, UnreadableResponseError):  # cut off, or too long: status and headers are known
            status = error.status if error.status >= 100 else 200  # noqa: PLR2004 - lower ones are none of HTTP's
            found = self.policy.rules.evidence(status=status, code=None, duplicate=False)
            return Attempt(TABLE[found], {}, error, self._retry_after(error.retry_after))
        if isinstance(error, TransportError):
            timeout = isinstance(error, AttemptTimeoutError)
            return Attempt(TABLE[Evidence.TIMEOUT if timeout else Evidence.LOST], {}, error)
        raise error

    def _retry_after(self, text: str | None) -> float | None:
        return parse_retry_after(text, now=time.time(), maximum=self.policy.max_retry_after) if text else None

    # -- answers

    def _believed(self, item: WorkItem, wire: Wire, reply: Reply, response: WireResponse) -> Attempt:
        """Take a success where it is this item's; where not, `item.fresh` asks for another answer."""
        fresh, item.fresh = item.fresh or item.once, False
        update = item.update
        if update is not None:
            another = another_line(reply.payload, update)
            if another is not None:
                doubt = self._doubt_of(item, update, another, wire, fresh=fresh)
                if doubt is not None:
                    response.discard()
                    return self._anothers(another, doubt, wire)
            elif not fresh and self._is_unproven(item, update, reply):
                response.discard()
                return Attempt(TABLE[Evidence.UNCONFIRMED], {}, UnreadableResponseError(_UNPROVEN))
            item.echo = echo_of(reply.payload, update, wire.clean)
        elif isinstance(item, BatchItem) and (named := self._take_rows(item, wire, reply)) is not None:
            response.discard()
            return self._anothers(named, Evidence.ANOTHERS, wire)
        return Attempt(_DUPLICATE_SUCCESS if reply.duplicate else _SUCCESS, reply.payload, response=response)

    def _judge(self, item: WorkItem, wire: Wire, reply: Reply, response: WireResponse) -> Attempt:
        """Say what a failure means, and whether it is to be believed; where not, `item.fresh` asks for another."""
        fresh, item.fresh = item.fresh or item.once, False
        if reply.code is None:
            response.discard()  # a proxy's answer, perhaps unasked: the platform's own may still come behind it
        rules = self.policy.rules
        in_doubt = item.maybe_applied or item.asked_before
        evidence = rules.evidence(
            status=reply.status, code=reply.code, duplicate=reply.duplicate, in_doubt=in_doubt, batch=item.apart
        )
        if evidence is Evidence.REFUSED and not fresh and self.questions.suspicious(asyncio.get_running_loop().time()):
            item.fresh = True  # a refusal names no line: it could be another's, as an answer just was
            response.discard()
            evidence = Evidence.UNCONFIRMED
        elif evidence is Evidence.FATAL and self.credentials.refuse(wire):
            item.refusals += 1
            item.refused_wire = wire
            evidence = Evidence.RENEWED
        elif evidence in {Evidence.FOREIGN, Evidence.UNREADABLE}:
            self.gate.outage.on_strange_answer()
        verdict = TABLE[evidence]
        if isinstance(item, BatchItem) and evidence in {Evidence.REFUSED, Evidence.DUPLICATE_FAILURE}:
            self._take_results(item, wire, reply)
        return Attempt(verdict, {}, self._error(reply, evidence), self._retry_after(reply.retry_after))

    def _take_rows(self, item: BatchItem, wire: Wire, reply: Reply) -> LineKey | None:
        """Take what the answer to a batch says of each row; return the line that it names where it is a line's."""
        named = line_named(reply.payload)
        if named is not None:
            self.questions.distrust(asyncio.get_running_loop().time())
            item.fresh = True
            return named
        self._take_results(item, wire, reply)
        return None

    def _take_results(self, item: BatchItem, wire: Wire, reply: Reply) -> None:
        """Take what an answer says of each row, which may be otherwise than what it says of the whole."""
        said = row_results(reply.payload, item.batch_rows.external_ids, refused=reply.code != 0)
        item.results = None if said is None else [self._row_result(one, wire, reply) for one in said]

    def _row_result(self, said: RowSaid | None, wire: Wire, reply: Reply) -> RowResult:
        if said is None:
            return None
        if said.code is None:
            return OutcomeState.UNKNOWN, UnreadableResponseError(said.text)
        if said.code == 0:
            return TABLE[Evidence.DUPLICATE_SUCCESS if reply.duplicate else Evidence.SUCCESS].state, None
        verdict = TABLE[self.policy.rules.evidence(status=200, code=said.code, duplicate=False)]
        error = api_error(
            status=reply.status, code=said.code, text=wire.clean(said.text), maybe_applied=verdict.maybe_applied
        )
        return verdict.state, error

    def _error(self, reply: Reply, evidence: Evidence) -> DeliveryError:
        if evidence is Evidence.UNREADABLE and reply.problem is not None:
            return reply.problem
        return api_error(
            status=reply.status,
            code=reply.code,
            text=reply.text,
            duplicate=reply.duplicate,
            retry_after=self._retry_after(reply.retry_after),
            maybe_applied=TABLE[evidence].maybe_applied,
            location=reply.location,
        )

    def _doubt_of(
        self, item: WorkItem, update: LineStatusUpdate, another: LineKey, wire: Wire, *, fresh: bool
    ) -> Evidence | None:
        """Say what an answer that names `another` line is, None where it is taken; mark the item to be asked again."""
        questions = self.questions
        line = LineKey(update.order_external_id, update.order_line_external_id)
        free = questions.gave(another, line, before=item.another) and not questions.knows(another)
        if free and (questions.expects(another, line) or (fresh and another == item.another)):
            questions.accept(another, line, wire.clean)
            return None
        questions.distrust(asyncio.get_running_loop().time())
        item.another = another
        item.fresh = True
        return Evidence.UNCONFIRMED if free else Evidence.ANOTHERS

    def _is_unproven(self, item: WorkItem, update: LineStatusUpdate, reply: Reply) -> bool:
        """Say whether a success could be another call's, as one just was; mark the item to be asked again."""
        questions = self.questions
        if not questions.suspicious(asyncio.get_running_loop().time()) or confirms(reply.payload, update):
            return False
        item.fresh = True
        return True

    def _anothers(self, another: LineKey, evidence: Evidence, wire: Wire) -> Attempt:
        msg = f"the answer was that of another line ({wire.clean('/'.join(another))})"
        return Attempt(TABLE[evidence], {}, UnreadableResponseError(msg))

    def _account(self, item: WorkItem, last: Attempt, started: float, now: float, totals: Totals | None) -> None:
        """Tell the flow laws and the totals how an attempt ended."""
        verdict, error = last.verdict, last.error
        if error is None:
            self.totals.last_success = now
            self.budget.on_success()
        else:
            if verdict.maybe_applied:
                item.doubt()
            if verdict is not _RENEWED:  # which says nothing of the server
                item.first_failure = item.first_failure or now
        self.totals.problem = None if verdict.served or error is None else error.message
        if verdict.scope is not _NEITHER:
            line = item.claims[-1][0] if item.claims else item
            self.gate.record(
                now,
                now - started,
                verdict,
                kind=item.call.method,
                line=line,
                first_failure=item.first_failure,
                apart=item.apart,
            )
        elif verdict is _NO_ROOM:
            line = item.claims[-1][0] if item.claims else item
            self.gate.on_no_room(now, kind=item.call.method, line=line, first_failure=item.first_failure)
        self.totals.count(item, verdict)
        if totals is not None:
            totals.count(item, verdict)
        if verdict.throttled and last.retry_after is not None:
            self.gate.pause(last.retry_after, apart=item.apart)

    # -- retries

    async def retry(self, item: WorkItem, patience: Patience, totals: Totals | None = None) -> Stop:
        """Make the further attempts of a call whose attempt asked for one; say why they ended.

        Holds no permit while it waits. When cancelled, the item tells how far it came.
        """
        rounds = _Rounds(self, item, patience, totals)
        retrying = tenacity.AsyncRetrying(
            retry=rounds.asks_for_another,
            wait=rounds.delay,
            stop=tenacity.stop_never,
            sleep=self.gate.rest,
            reraise=True,
        )
        await retrying(rounds.attempt)
        return rounds.stop or Stop(StopReason.FINAL)

    def decide(self, item: WorkItem, state: tenacity.RetryCallState, patience: Patience) -> Retry | Stop:
        """Say whether the item is tried again after its last attempt."""
        last, gate = item.last, self.gate
        if last is None or item.owner.stopped or item.spent:
            return Stop(StopReason.FINAL)
        in_outage = last.verdict.retry and gate.outage.state is not _CLEAR
        no_room = last.verdict is _NO_ROOM
        first_refusal = last.verdict is _RENEWED and item.refusals == 1  # further ones cost: a source may alternate
        if in_outage or no_room or first_refusal:
            item.unpaid += 1
        now = asyncio.get_running_loop().time()
        if no_room and now >= patience.ends_at(gate.outage, since=item.first_failure):
            return Stop(StopReason.OUTAGE)
        spent = item.attempts - item.unpaid
        state.attempt_number = max(spent, 1)  # what cost no attempt is none for tenacity's strategies either
        return decide(
            last.verdict,
            spent=spent,
            state=state,
            at_once=in_outage or first_refusal,
            misdirected=self._is_misdirected(last.verdict),
            now=now,
            expires_at=item.expires_at,
            retry_after=last.retry_after,
            policy=self.policy,
            budget=self.budget,
            random=self.random.random(),
        )

    def _is_misdirected(self, verdict: Verdict) -> bool:
        """Say whether the address is wrong: strange answers, and nothing under way that may prove otherwise."""
        gate = self.gate
        return gate.outage.misdirected and not gate.in_flight and any(verdict is strange for strange in _STRANGE)

    async def acquire(self, item: WorkItem, patience: Patience) -> int | Stop:
        """Wait for a token and a permit, until the item expires and while the patience lasts.

        Raises `ClientClosedError`, and the `ConfigurationError` of a token's source that fails, where nothing is in
        doubt.
        """
        permit = self.try_acquire(item.call.method, apart=item.apart)
        if not permit:
            try:
                async with asyncio.timeout_at(item.expires_at):
                    permit = await self.permit(item.call.method, patience, bulk=item.bulk, apart=item.apart)
            except TimeoutError:
                return Stop(StopReason.DEADLINE)
            except ConfigurationError:
                if item.state is not OutcomeState.UNKNOWN:
                    raise
                return Stop(StopReason.NO_TOKEN)
        if permit == NO_PERMIT:
            self.gate.check_open()
            return Stop(StopReason.OUTAGE)
        if item.refused_wire is not None and item.refused_wire is self.credentials.wire:  # there is no other token
            self.gate.release(permit, unused=True)
            assert item.last is not None  # noqa: S101 - it was refused
            item.last = attrs.evolve(item.last, verdict=TABLE[Evidence.FATAL])
            return Stop(StopReason.FINAL)
        return permit

    def try_acquire(self, kind: str, *, apart: bool = False) -> int:
        """Take a permit if one is free now, and there is a token."""
        return NO_PERMIT if self.credentials.wire is None else self.gate.try_acquire(kind, apart=apart)

    async def permit(self, kind: str, patience: Patience, *, bulk: bool, apart: bool = False) -> int:
        """Wait for a token, and then for a permit; see `Gate.acquire`, and `Credentials.ready` for what is raised."""
        while True:
            await self.credentials.ready()
            permit = await self.gate.acquire(kind, bulk=bulk, patience=patience, apart=apart)
            if not permit or self.credentials.wire is not None:
                return permit
            self.gate.release(permit, unused=True)  # the token was refused meanwhile

    # -- the end

    def failure(self, item: WorkItem) -> DeliveryError | None:
        """Give the signed error with which a call ends, or None for a success."""
        last, stop = item.last, item.stop
        if last is not None and last.error is None:
            return None
        cause = None if last is None else last.error
        reason = StopReason.FINAL if stop is None else stop.reason
        kind = _KINDS.get(reason)
        no_connection = reason is StopReason.OUTAGE and isinstance(cause, TransportError)
        if cause is not None and (kind is None or no_connection):
            return item.sign(cause)
        error = self._stopped(kind or DeadlineError, reason, cause)
        error.__cause__ = cause
        return item.sign(error)

    def _stopped(self, kind: type[DeliveryError], reason: StopReason, cause: DeliveryError | None) -> DeliveryError:
        said = reason.value
        last = (
            self.totals.problem if cause is None and kind is OutageError else None if cause is None else cause.message
        )
        if last is not None:
            said += f"; the last attempt: {last}"
        elif kind is DeadlineError:
            said = "no attempt could finish before the deadline"
        if kind is OutageError:
            return OutageError(said, retry_after=self.gate.statistics().paused)
        return kind(said)


_KINDS: Final[Mapping[StopReason, type[DeliveryError]]] = {
    StopReason.DEADLINE: DeadlineError,
    StopReason.LEASE: RunStoppedError,
    StopReason.BUDGET: RetryBudgetError,
    StopReason.RENEWED: NotSentError,
    StopReason.NO_TOKEN: NotSentError,
    StopReason.OUTAGE: OutageError,
    StopReason.CLOSED: NotSentError,
}
"""The errors of ends that are none of the attempt's own."""


class _Rounds:
    """The attempts of one call after its first, as tenacity drives them."""

    __slots__ = ("_begun", "_decision", "_delivery", "_item", "_looked_at", "_outages", "_paid", "_patience", "_totals",
                 "stop")  # fmt: skip

    def __init__(self, delivery: Delivery, item: WorkItem, patience: Patience, totals: Totals | None) -> None:
        self._delivery = delivery
        self._item = item
        self._patience = patience
        self._totals = totals
        self._begun = False
        self._decision: Retry | Stop = Stop(StopReason.FINAL)
        self._paid, self._looked_at = 0.0, item.started
        self._outages = delivery.gate.outage.lasted(item.started)
        self.stop: Stop | None = None

    async def attempt(self) -> Stop | None:
        """Make the next attempt; the first was made already, and tenacity starts from its verdict."""
        if not self._begun:
            self._begun = True
            return None
        delivery, item = self._delivery, self._item
        permit = await delivery.acquire(item, self._patience)
        if isinstance(permit, Stop):
            return permit
        stop = None
        try:
            stop = await delivery.attempt(item, self._totals)
        finally:
            delivery.gate.release(permit, unused=stop is not None)
        return stop

    def asks_for_another(self, state: tenacity.RetryCallState) -> bool:
        """Decide after an attempt."""
        delivery, item = self._delivery, self._item
        self._count_time(state)
        stopped = state.outcome.result() if state.outcome is not None else None
        self._decision = stopped or delivery.decide(item, state, self._patience)
        if isinstance(self._decision, Stop):
            self.stop = self._decision
            return False
        if item.last is not None and item.last.verdict is _NO_ROOM:
            self._looked_at += self._decision.delay  # a wait for room costs nothing
        if delivery.notifier is not None:
            delivery.notifier.retry_planned(item, self._decision.delay, None if item.last is None else item.last.error)
        return True

    def _count_time(self, state: tenacity.RetryCallState) -> None:
        """Let the state say how long the call has taken since its first attempt, without the time of outages."""
        now = asyncio.get_running_loop().time()
        outages = self._delivery.gate.outage.lasted(now)
        self._paid += max(0.0, now - self._looked_at - (outages - self._outages))
        self._looked_at, self._outages = now, outages
        ended = state.outcome_timestamp
        state.start_time = (time.monotonic() if ended is None else ended) - self._paid

    def delay(self, state: tenacity.RetryCallState) -> float:
        """Give the seconds before the next attempt."""
        del state
        return self._decision.delay if isinstance(self._decision, Retry) else 0.0


def _remember_token(item: WorkItem, token_number: int) -> None:
    """Note with which token the doubt of an item arose, if there is any."""
    if item.maybe_applied and item.token_number is None and not _only_reads(item):
        item.token_number = token_number


def _only_reads(item: WorkItem) -> bool:
    method = BY_PATH.get(item.call.method)
    return method is not None and method.repeat is Repeat.READS


def _odd(error: BaseException) -> ConnectionLostError:
    return ConnectionLostError(f"the transport failed unexpectedly ({type(error).__name__})")

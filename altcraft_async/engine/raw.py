"""What came back beside a call's value: status, headers and effort of the request that it was in the end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from altcraft_async.engine.dispatch import NO_BULK_CALL, delivered_calls
from altcraft_async.errors import ConfigurationError
from altcraft_async.outcome import RawResponse
from altcraft_async.protocol.states import OutcomeState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from altcraft_async.engine.work import WorkItem

__all__ = ["noted_calls", "raw_response"]

T = TypeVar("T")


@contextlib.contextmanager
def noted_calls() -> Iterator[list[WorkItem]]:
    """Note the single calls that are delivered within."""
    calls: list[WorkItem] = []
    reset = delivered_calls.set(calls)
    try:
        yield calls
    finally:
        delivered_calls.reset(reset)


def raw_response(value: T, calls: Sequence[WorkItem], now: float) -> RawResponse[T]:
    """Put the `value` of a method together with the last of the `calls` that it made."""
    last = calls[-1].last if calls else None
    if last is None or last.response is None:
        raise ConfigurationError(NO_BULK_CALL, field="method")
    return RawResponse(
        value,
        last.response.status,
        last.response.headers,
        calls[-1].request_id,
        calls[-1].attempts,
        last.verdict.state is OutcomeState.DUPLICATE,
        now - calls[-1].started,
    )

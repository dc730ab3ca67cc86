"""What the generated classes stand on: a client in a thread of its own, its resources, and what they are given."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Generic, ParamSpec, Self, TypeVar

from altcraft_async.blocking.thread import LoopThread
from altcraft_async.engine.raw import noted_calls, raw_response

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from altcraft_async.client import AltcraftClient as AsyncClient
    from altcraft_async.market.options import ImportOptions
    from altcraft_async.outcome import RawResponse

__all__ = ["Client", "Resource", "listed", "settled"]

P = ParamSpec("P")
T = TypeVar("T")
ResourceT = TypeVar("ResourceT")


class Resource(Generic[ResourceT]):
    """A resource of the Market whose methods wait for their end."""

    __slots__ = ("_async", "_thread")

    def __init__(self, resource: ResourceT, thread: LoopThread) -> None:
        self._async = resource
        self._thread = thread

    def __repr__(self) -> str:
        """Show the gate's state."""
        return repr(self._async)


class Client:
    """A client in a thread of its own, or a copy of one."""

    __slots__ = ("_async", "_copy", "_thread")

    def __repr__(self) -> str:
        """Show where to and in which state; never the token."""
        return repr(self._async)

    def __enter__(self) -> Self:
        """Return the client, which starts its thread at the first call."""
        self._thread.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the client, or the one it is a copy of, was closed."""
        return self._thread.closed

    def close(self) -> None:
        """Close the client and end its thread; harmless when called again, without effect on a copy.

        Calls that other threads have under way end with `ClientClosedError`. In a process that was forked off it
        does nothing.
        """
        if not self._copy:
            self._thread.close()

    def with_raw_response(self, method: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> RawResponse[T]:
        """Call a `method` of this client with its arguments, and return its value with status, headers and effort.

        As `altcraft_async.AltcraftClient.with_raw_response`.
        """
        with noted_calls() as calls:
            value = method(*arguments, **keywords)
        return raw_response(value, calls, time.monotonic())

    def _set(self, client: AsyncClient, thread: LoopThread | None = None) -> None:
        self._async = client
        self._thread = LoopThread(client.aclose) if thread is None else thread
        self._copy = thread is not None

    @classmethod
    def _of(cls, client: AsyncClient, thread: LoopThread | None = None) -> Self:
        """Return the face of a client: a new one, or, with its `thread`, of a copy."""
        face = object.__new__(cls)
        face._set(client, thread)
        return face


def listed(given: Iterable[T]) -> Iterable[T]:
    """Read an iterable here and now, in the thread that it belongs to; what is none is left to be refused."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        return given
    return list(given)


def settled(options: ImportOptions) -> ImportOptions:
    """Return the keywords of an import with what can be iterated over read here and now."""
    if "custom_fields" in options:
        options["custom_fields"] = listed(options["custom_fields"])
    return options

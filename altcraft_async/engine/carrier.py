"""What a transport is, and one of somebody else's, held to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from altcraft_async.errors import AltcraftError, ConnectionLostError, TransportError, UnreadableResponseError
from altcraft_async.kinds import shown
from altcraft_async.protocol.wire import WireResponse

if TYPE_CHECKING:
    from altcraft_async.protocol.wire import WireRequest

__all__ = ["Carrier", "OwnTransport", "Transport"]


class Transport(Protocol):
    """What the engine asks of a transport; anything that can do this can carry the calls."""

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request` and read the whole answer, within `total` seconds and `max_bytes`.

        With `fresh` it goes over a connection that nothing was ever sent on, and
        that is closed after the answer. Raises `TransportError` when there was no
        answer, and `UnreadableResponseError` when its body could not be read to the
        end. Cancellation drops the connection; the server may have taken the call.
        """

    async def aclose(self) -> None:
        """Free what the transport owns; harmless when called again."""


class OwnTransport:
    """A transport of the library's own, whose errors that are no `TransportError` say that nothing was sent."""

    __slots__ = ()


class Carrier:
    """Sends with `inner`, which is somebody else's.

    What it may neither return nor raise is a `ConnectionLostError`: nobody knows what was sent by then.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        """Show the transport inside."""
        return f"<Carrier {self._inner!r}>"

    async def send(
        self, request: WireRequest, *, connect: float, total: float, max_bytes: int, fresh: bool = False
    ) -> WireResponse:
        """Send `request`; see `Transport.send`."""
        try:
            response = await self._inner.send(request, connect=connect, total=total, max_bytes=max_bytes, fresh=fresh)
        except (TransportError, UnreadableResponseError):
            raise
        except AltcraftError as error:
            msg = f"the transport raised what no transport may ({type(error).__name__})"
        else:
            wrong = _what_is_wrong(response)
            if wrong is None:
                return response
            msg = f"the transport returned what no transport may ({wrong})"
        raise ConnectionLostError(msg)  # outside the handler, so that no context clings to it

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()


def _what_is_wrong(response: object) -> str | None:
    if not isinstance(response, WireResponse):
        return f"{type(response).__name__} instead of a WireResponse"
    status: object = response.status
    body: object = response.body
    headers: object = response.headers
    if not isinstance(status, int) or status < 100:  # noqa: PLR2004 - the least that HTTP has
        return f"{shown(status)} as a status"
    if not isinstance(body, bytes | bytearray):
        return f"a body of type {type(body).__name__}"
    if not isinstance(headers, Mapping):
        return f"headers of type {type(headers).__name__}"
    if not all(isinstance(text, str) for header in headers.items() for text in header):
        return "headers that are no text"
    return None

"""A service that consumes a queue, and acknowledges a message when its change has its outcome.

Messages of one order line go to one worker, which takes them one after the other, so
they reach the platform in their order; workers go side by side. The message's own id is the
``Request-ID``: a message that the broker delivers again, after a crash say, makes no second
change.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Protocol

from altcraft_async import BadRequestError, DeliveryError, InvalidUpdateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from altcraft_async import AltcraftClient

WORKERS = 64
PAUSE = 1.0
"""Seconds before a message is tried again whose delivery failed for no fault of its own."""


class Message(Protocol):
    """What a broker's client hands out; the names differ, these three things are always there."""

    id: str
    body: dict[str, str]

    async def ack(self) -> None:
        """Tell the broker that the message is dealt with."""

    async def reject(self, reason: str) -> None:
        """Tell the broker to put the message aside, into its dead-letter queue."""


async def messages_of(queue: asyncio.Queue[Message]) -> AsyncIterator[Message]:
    """Yield messages for ever.

    Here goes the consumer of your broker: with aio-pika ``async for message in queue.iterator()``,
    with aiokafka ``async for record in consumer``, with a prefetch above `WORKERS`.
    """
    while True:
        yield await queue.get()


async def consume(altcraft: AltcraftClient, source: AsyncIterator[Message]) -> None:
    """Deliver the messages of `source` until it ends.

    Cancelled, it leaves unacknowledged what has no outcome yet: the broker delivers it again.
    """
    lanes: list[asyncio.Queue[Message | None]] = [asyncio.Queue(maxsize=1) for _ in range(WORKERS)]
    async with asyncio.TaskGroup() as workers:
        for lane in lanes:
            workers.create_task(_work(altcraft, lane))
        async for message in source:
            line = f"{message.body['order']}/{message.body['line']}"
            await lanes[zlib.crc32(line.encode()) % WORKERS].put(message)
        for lane in lanes:
            await lane.put(None)


async def _work(altcraft: AltcraftClient, lane: asyncio.Queue[Message | None]) -> None:
    while (message := await lane.get()) is not None:
        while not await _delivered(altcraft, message):  # noqa: ASYNC110 - the line's next message waits, as it must
            await asyncio.sleep(PAUSE)


async def _delivered(altcraft: AltcraftClient, message: Message) -> bool:
    """Try to deliver a message; false where it must be tried again, under the same id."""
    body = message.body
    try:
        await altcraft.market.orders.update_order_line_status(
            body["order"], body["line"], body["status"], request_id=message.id, deadline=30.0
        )
    except (InvalidUpdateError, BadRequestError) as error:
        await message.reject(str(error))
    except DeliveryError:
        return False
    else:
        await message.ack()
    return True

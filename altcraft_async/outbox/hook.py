"""Telling the owner of an outbox of its dead letters, in a task of its own: no delivery waits for it."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from altcraft_async.outbox.failures import Topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from altcraft_async.outbox.failures import FailureLog
    from altcraft_async.outbox.store import DeadLetter

    OnDead: TypeAlias = Callable[[DeadLetter], Awaitable[None] | None]

__all__ = ["DeadLetterHook"]

_MOST = 10_000
"""Letters that wait for a slow hook; what comes beyond is counted in the log. A letter is about a kilobyte."""

_PATIENCE = 5.0
"""Seconds that a hook gets at the end for what waits."""


class DeadLetterHook:
    """Calls `hook` with each letter, one after the other in the order of their ends; what it raises is logged."""

    __slots__ = ("_failures", "_hook", "_task", "_waiting")

    def __init__(self, hook: OnDead, failures: FailureLog) -> None:
        self._hook = hook
        self._failures = failures
        self._waiting: deque[DeadLetter] = deque()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Show how much waits."""
        return f"<DeadLetterHook {len(self._waiting)} waiting>"

    def tell(self, letters: Iterable[DeadLetter]) -> None:
        """Queue letters that are dead and safe in the store."""
        lost = 0
        for letter in letters:
            if len(self._waiting) < _MOST:
                self._waiting.append(letter)
            else:
                lost += 1
        if lost:
            said = f"on_dead is too slow: {_MOST:,} dead letters wait for it, and it is not called for more"
            self._failures.record(Topic.HOOK, said, times=lost)
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Give the hook some seconds for what waits, then cancel it."""
        if self._task is None:
            return
        _, late = await asyncio.wait((self._task,), timeout=_PATIENCE)
        for task in late:
            said = f"on_dead was cancelled at the end of its outbox; it was not called for {len(self._waiting)} letters"
            self._failures.record(Topic.HOOK, said)
            task.cancel()
            await asyncio.wait((task,))

    async def _run(self) -> None:
        try:
            while self._waiting:
                letter = self._waiting.popleft()
                try:
                    called = self._hook(letter)
                    if inspect.isawaitable(called):
                        await called
                except Exception as error:  # noqa: BLE001 - somebody else's code, and never worth a delivery
                    self._failures.record(Topic.HOOK, f"on_dead failed on dead letter {letter.id}", error=error)
                await asyncio.sleep(0)  # a hook that does not wait is no reason to keep all others from their turn
        finally:
            self._task = None

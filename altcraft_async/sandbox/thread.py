"""A sandbox for synchronous code: its own thread, its own event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, TypeVar

from altcraft_async.sandbox.server import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from altcraft_async.sandbox.faults import Faults
    from altcraft_async.sandbox.ledger import Ledger, LedgerCheck
    from altcraft_async.sandbox.traffic import Refusals, Seen

__all__ = ["ThreadedSandbox"]

Kind: TypeAlias = Literal["orders", "products", "sku"]

_T = TypeVar("_T")


class ThreadedSandbox:
    """A `Sandbox` on a thread of its own, for tests and tools without an event loop.

    .. code-block:: python

        from altcraft_async.sandbox import ThreadedSandbox

        with ThreadedSandbox(seed=7) as sandbox:
            sandbox.seed_orders(10)
            print(sandbox.base_url, sandbox.token)  # for whatever you test

    It takes the settings of `Sandbox`. Every call here is carried over to the
    sandbox's loop and waits for the result. Read `ledger` at moments of rest,
    or use `check`, which is carried over too.
    """

    __slots__ = ("_loop", "_sandbox", "_settings", "_thread")

    def __init__(self, **settings: object) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sandbox: Sandbox | None = None
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        """Show the sandbox's state, never the token."""
        return f"<ThreadedSandbox of {self._sandbox!r}>" if self._sandbox else "<ThreadedSandbox, not started>"

    def __enter__(self) -> Self:
        """Start the thread and the sandbox; raises what either raises."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="altcraft-sandbox", daemon=True)
        self._thread.start()
        try:
            self._sandbox = self._wait(self._start())
        except BaseException:
            self._end(loop)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the sandbox and its thread."""
        loop = self._running_loop
        try:
            self._wait(self._running.stop())
        finally:
            self._end(loop)

    @property
    def base_url(self) -> str:
        """The URL to give to a client."""
        return self._running.base_url

    @property
    def token(self) -> str:
        """The one token that is accepted."""
        return self._running.token

    @property
    def ledger(self) -> Ledger:
        """The sandbox's own ledger."""
        return self._running.ledger

    @property
    def faults(self) -> Faults:
        """How the sandbox misbehaves; can be assigned."""
        return self._running.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._there(lambda sandbox: setattr(sandbox, "faults", faults))

    def seed_orders(self, orders: int, lines_per_order: int = 1) -> list[tuple[str, str]]:
        """See `Sandbox.seed_orders`."""
        return self._there(lambda sandbox: sandbox.seed_orders(orders, lines_per_order))

    def add_order(
        self,
        order_external_id: str,
        lines: Iterable[str] | Mapping[str, str],
        *,
        status: str = "new",
        endpoint: str = "sandbox",
    ) -> None:
        """See `Sandbox.add_order`."""
        self._there(lambda sandbox: sandbox.add_order(order_external_id, lines, status=status, endpoint=endpoint))

    def line_status(self, order_external_id: str, order_line_external_id: str) -> str:
        """See `Sandbox.line_status`."""
        return self._there(lambda sandbox: sandbox.line_status(order_external_id, order_line_external_id))

    def order_status(self, order_external_id: str) -> str:
        """See `Sandbox.order_status`."""
        return self._there(lambda sandbox: sandbox.order_status(order_external_id))

    def import_rows(self, kind: Kind, rows: Iterable[Mapping[str, object]]) -> None:
        """See `Sandbox.import_rows`."""
        self._there(lambda sandbox: sandbox.import_rows(kind, rows))

    def has(self, kind: Kind, external_id: str) -> bool:
        """See `Sandbox.has`."""
        return self._there(lambda sandbox: sandbox.has(kind, external_id))

    def snapshot(self) -> dict[str, object]:
        """See `Sandbox.snapshot`."""
        return self._there(lambda sandbox: sandbox.snapshot())

    def restore(self, snapshot: Mapping[str, object]) -> None:
        """See `Sandbox.restore`."""
        self._there(lambda sandbox: sandbox.restore(snapshot))

    def reset(self) -> None:
        """See `Sandbox.reset`."""
        self._there(lambda sandbox: sandbox.reset())

    def requests(self) -> Sequence[Seen]:
        """Return the requests that are kept, the newest first; see `altcraft_async.sandbox.Traffic`."""
        return self._there(lambda sandbox: sandbox.traffic.newest())

    def refusals(self) -> Sequence[Refusals]:
        """Return what was refused, an order line once, the newest first."""
        return self._there(lambda sandbox: sandbox.traffic.refusals())

    def check_imports(self, kind: Kind, expected: Iterable[Mapping[str, object]]) -> LedgerCheck:
        """See `altcraft_async.sandbox.Ledger.check_imports`."""
        return self._there(lambda sandbox: sandbox.ledger.check_imports(kind, expected))

    def check(self, expected: Iterable[tuple[str, str, str]]) -> LedgerCheck:
        """See `altcraft_async.sandbox.Ledger.check`."""
        return self._there(lambda sandbox: sandbox.ledger.check(expected))

    @property
    def _running(self) -> Sandbox:
        if self._sandbox is None:
            msg = "the sandbox is not started; use it inside `with`"
            raise RuntimeError(msg)
        return self._sandbox

    @property
    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            msg = "the sandbox's thread is not running; use it inside `with`"
            raise RuntimeError(msg)
        return self._loop

    def _run(self) -> None:
        loop = self._running_loop
        asyncio.set_event_loop(loop)
        loop.run_forever()

    async def _start(self) -> Sandbox:
        # Made here, in the loop that it will serve: its settings come from the caller unchecked.
        sandbox = Sandbox(**self._settings)  # type: ignore[arg-type]
        await sandbox.start()
        return sandbox

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join()
        loop.close()

    def _wait(self, coroutine: Coroutine[object, object, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._running_loop).result()

    def _there(self, function: Callable[[Sandbox], _T]) -> _T:
        sandbox = self._running

        async def call() -> _T:
            return function(sandbox)

        return self._wait(call())

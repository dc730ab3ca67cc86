"""The token of a client: fixed, or given by a source that is asked at first use and after a refusal.

A source is asked once for all calls that wait, never for each call. What it gives
is shared by a client and its copies, whatever formats they speak. Nobody waits for it with a permit
in hand: a source that is slow says nothing of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from altcraft_async.errors import ClientClosedError, ConfigurationError
from altcraft_async.kinds import check_token

if TYPE_CHECKING:
    from altcraft_async.protocol.wire import Wire

__all__ = ["Credentials", "Token", "TokenFile", "TokenSource"]

TokenSource: TypeAlias = Callable[[], str | Awaitable[str]]
"""Gives a token when it is called; a plain function runs on the event loop, so it must not block."""

_BEING_WRITTEN = 2.0
_LOOK_AGAIN = 0.1


class Token:
    """A token, or the source that gives it, and what it gave last.

    `value` is the token that is in force, None before a source was asked; one that is `fixed` is the
    only one. Raises `ConfigurationError` for what can be neither token nor source.
    """

    __slots__ = ("__weakref__", "_call", "_closed", "_source", "fixed", "value")

    def __init__(self, given: str | TokenSource) -> None:
        if not isinstance(given, str) and not callable(given):
            msg = f"token must be a text, or a callable that gives one, not a {type(given).__name__}"
            raise ConfigurationError(msg, field="token")
        self.fixed = isinstance(given, str)
        self._source: TokenSource = (lambda: given) if isinstance(given, str) else given
        self.value: str | None = given if isinstance(given, str) else None
        if isinstance(given, TokenFile):
            self.value = given.first
        self._call: _Call | None = None
        self._closed = False

    def __repr__(self) -> str:
        """Show where the token comes from, never the token."""
        if self.fixed:
            return "<Token, fixed>"
        return f"<Token of a source, {'not asked yet' if self.value is None else 'known'}>"

    def close(self) -> None:
        """Let nobody wait for a token any longer: whoever does gets a `ClientClosedError`."""
        self._closed = True
        if self._call is not None and not self._call.task.get_loop().is_closed():
            self._call.task.cancel()

    async def after(self, refused: str | None, *, within: float) -> str:
        """Return the token to use after one was `refused`, or at first use; the same where there is no other.

        The source is asked where it has not given another yet, and waited for `within` seconds. It goes on where
        nobody waits any more, so that a slow one has its token ready for the next.
        """
        if self.value is not None and (self.fixed or self.value != refused):
            return self.value
        if self._call is None:
            self._check_open()
            self._call = _Call(asyncio.get_running_loop().create_task(self._fetch()))
        return await self._wait(self._call, within)

    async def _wait(self, call: _Call, within: float) -> str:
        """Wait for the source with all others who do; where it is too slow for the last of them, the next asks anew."""
        call.waiting += 1
        limit = asyncio.timeout(within)
        try:
            async with limit:
                found = await asyncio.shield(call.task)
        except TimeoutError:
            found = _failed(f"it gave none within {within:g} s")
        except asyncio.CancelledError:
            if not _is_cancelled():
                self._check_open()
            raise
        finally:
            call.waiting -= 1
            if self._call is call and (call.task.done() or (limit.expired() and not call.waiting)):
                self._call = None
                call.task.cancel()
        if isinstance(found, ConfigurationError):  # each caller gets an error of its own
            raise ConfigurationError(found.message, field="token")
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError

    async def _fetch(self) -> str | ConfigurationError:
        """Ask the source; nothing of its own error is kept, for that could hold the token."""
        try:
            token = self._source()
            if inspect.isawaitable(token):
                token = await token
        except ConfigurationError as error:
            return error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            failure = "it was cancelled"
        except Exception as error:  # noqa: BLE001 - a user's own code may raise anything
            failure = type(error).__name__
        else:
            if isinstance(token, str):
                return self._take(token)
            failure = f"it gave a {type(token).__name__} instead of a text"
        return _failed(failure)

    def _take(self, token: str) -> str | ConfigurationError:
        try:
            check_token(token)  # one that cannot be sent is not kept, so that the source is asked again
        except ConfigurationError as error:
            return error
        self.value = token
        return token


class _Call:
    """One call of a source: its task, and how many wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[str | ConfigurationError]) -> None:
        self.task = task
        self.waiting = 0


def _failed(how: str) -> ConfigurationError:
    msg = f"the source of the token failed ({how}); see that it gives a token when it is called"
    return ConfigurationError(msg, field="token")


def _is_cancelled() -> bool:
    """Say whether the running task itself is to end, rather than something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class TokenFile:
    """A source that reads a file, when it is made and whenever it is called.

    `name` is what the file is called in errors. Raises `ConfigurationError`, naming
    the file, where it cannot be read or holds nothing that can be a token.
    """

    __slots__ = ("_name", "_path", "first")

    def __init__(self, path: str | Path, *, name: str = "the token file") -> None:
        self._path = path
        self._name = name
        self.first = self._read()
        check_token(self.first)

    def __repr__(self) -> str:
        """Show the file's path."""
        return f"<TokenFile {self._path}>"

    async def __call__(self) -> str:
        """Read the file in a thread: it may lie on a network's disk.

        One that is missing or empty is looked at again for `_BEING_WRITTEN` seconds: it may just be replaced.
        """
        for _ in range(round(_BEING_WRITTEN / _LOOK_AGAIN)):
            with contextlib.suppress(ConfigurationError):
                return await asyncio.to_thread(self._read)
            await asyncio.sleep(_LOOK_AGAIN)
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        try:
            token = Path(self._path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            msg = f"{self._name} {self._path} cannot be read ({reason}); check the path and who may read it"
        else:
            if token:
                return token
            msg = f"{self._name} {self._path} is empty; put the token into it"
        raise ConfigurationError(msg, field="token")


class Credentials:
    """The `Wire` of one client or copy, made for the token that is in force.

    `wire` is for the hot path: None while there is no token, because a source has given none yet, or because the last
    one was refused. `changes` counts the tokens that were replaced by another. A source is waited for `within` seconds.
    """

    __slots__ = ("_last", "_make_wire", "_used", "_within", "changes", "token", "wire")

    def __init__(self, token: Token, make_wire: Callable[[str], Wire], *, within: float = 30.0) -> None:
        self.token = token
        self._make_wire = make_wire
        self._within = within
        self._used = token.value
        self._last: Wire | None = None if token.value is None else make_wire(token.value)
        self.changes = 0
        self.wire = self._last

    def __repr__(self) -> str:
        """Show where the token comes from, never the token."""
        return f"<Credentials {self.token!r}>"

    def refuse(self, wire: Wire) -> bool:
        """Take note that the token of a wire was refused; say whether there can be another.

        From here on `wire` is None until the source was asked, once for all that wait. Where another has replaced it
        already, that one stays.
        """
        if self.token.fixed:
            return False
        if wire is self.wire:
            self.wire = None
        return True

    async def ready(self) -> Wire:
        """Return the wire; where there is no token its source is asked, once for all that wait.

        It is that of before where the source gives the same token again. Raises `ConfigurationError` where it gives
        none that can be one; the next call asks again. Raises `ClientClosedError` once the token is closed.
        Cancelling one caller leaves the others alone.
        """
        if self.wire is None:
            token = await self.token.after(self._used, within=self._within)
            if self.wire is None:
                self._take(token)
        assert self.wire is not None  # noqa: S101 - it was taken
        return self.wire

    def _take(self, token: str) -> None:
        if self._last is None or token != self._used:
            self.changes += self._last is not None
            self._last, self._used = self._make_wire(token), token
        self.wire = self._last

"""Sessions with a PostgreSQL server: opened when they are needed, renewed when they broke, used by one at a time.

The one owner of psycopg. What fails becomes a `Failure` that says for people what happened, and for
the program what became of the work: refused, never begun, or unknown. Nothing here depends on the state of a
session between two transactions, so a PgBouncer in transaction mode may stand before the server.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from altcraft_async.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import psycopg

    Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]

__all__ = ["Database", "Failure", "Fate", "Pool", "Rows", "Session", "Statement", "array", "execute_within"]

Rows: TypeAlias = "list[tuple[Any, ...]]"
Parameters: TypeAlias = "Sequence[object] | Mapping[str, object]"
Statement: TypeAlias = "tuple[str, Parameters]"
"""SQL with ``%s`` or ``%(name)s`` for its parameters, and these."""

_CONNECT_SECONDS = 5
_WORK_SECONDS = 15.0
"""How long a piece of work may take, with connecting; a server that is silent for longer counts as lost."""

_CANCEL_SECONDS = 1.0
"""How long a server is waited for that is asked to cancel."""

_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": _CONNECT_SECONDS, "application_name": "altcraft_async", "keepalives_idle": 10,
    "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000, "client_encoding": "UTF8",
}  # fmt: skip
"""What a connection has that the address does not say otherwise."""

_BETWEEN = "\x1f"
"""What stands between the texts of an array while all are escaped together."""

_SESSION_ENDED = ("57P", "08")
"""Codes of errors, by their beginnings, after which nobody knows what became of the work."""

_MEANINGS = (
    ("22P05", "has an encoding that lacks a character ({text}); use a database with the encoding UTF8"),
    ("22021", "has an encoding that lacks a character ({text}); use a database with the encoding UTF8"),
    ("22", "cannot take a value ({text})"),
    ("28", "does not let this user in ({text}); check the user and the password"),
    ("3D", "does not have this database ({text}); check the address"),
    ("42501", "does not give this user the rights ({text}); `altcraft-async outbox schema` says what to grant"),
    ("42P01", "does not have the outbox's tables ({text}); check the address and the schema"),
    ("53100", "has a full disk ({text}); free some space"),
    ("53", "is short of something ({text}); wait, or give it more"),
    ("55P03", "has a lock that did not become free in time ({text}); end the transaction that has it, or try later"),
    ("25006", "only takes reads now ({text}); give the address of the primary"),
    ("57P", "is being restarted, or ended the session ({text}); wait until it is back"),
    ("", "refused the work ({text})"),
)
"""What a code of an error, by its beginning, means for a person; the first that fits counts."""


_LONGEST_WORDS = 300
"""The most characters of a server's words that are passed on."""

_NO_VALUE = "22"
"""How the codes of values begin that cannot be what they should."""


class Fate(enum.Enum):
    """What became of the work that failed."""

    REFUSED = "the server refused it: nothing was done"
    INVALID = "a value cannot be taken: nothing was done"
    UNAVAILABLE = "it was never begun"
    LOST = "its end is not known: it may have been done"


class Failure(Exception):  # noqa: N818 - not for users: their error is made of it
    """Work that failed: `message` says what happened and what to do, `fate` what became of it.

    `code` is the server's SQLSTATE, empty where the server did not say one.
    """

    def __init__(self, message: str, fate: Fate, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fate = fate
        self.code = code


class Pool(Protocol):
    """What is used of a psycopg_pool.AsyncConnectionPool."""

    conninfo: Any

    def connection(self, timeout: float | None = None) -> AbstractAsyncContextManager[Any]:
        """Lend a connection, and commit when it is given back."""


class Database:
    """A server's database, by its address or by a pool of the user's own.

    `name` is what messages call it: host, port and database, never the user or the password. Raises
    `ConfigurationError` for an address that cannot be read, and `MissingExtraError` without psycopg.
    """

    __slots__ = ("_conninfo", "_pool", "name")

    def __init__(self, source: str | Pool) -> None:
        try:
            from psycopg import ProgrammingError, conninfo  # noqa: PLC0415 - an extra
        except ImportError:
            msg = "psycopg is not installed: pip install 'altcraft-async[postgres]'"
            raise MissingExtraError(msg) from None
        self._pool = None if isinstance(source, str) else source
        self._conninfo = ""
        told = source if isinstance(source, str) else source.conninfo
        try:
            given = conninfo.conninfo_to_dict(told if isinstance(told, str) else "")  # a pool's may be a function
            if self._pool is None:
                self._conninfo = conninfo.make_conninfo(told, **{k: v for k, v in _DEFAULTS.items() if k not in given})
        except ProgrammingError:
            msg = "the database's address cannot be read; write postgresql://USER@HOST:PORT/DATABASE"
            raise ConfigurationError(msg, field="url") from None
        host, port = str(given.get("host") or given.get("hostaddr") or "localhost"), given.get("port")
        if any("@" in one[1:] and not one.startswith("/") for one in host.split(",")):  # a part of the password
            msg = "the database's address has an @ in the user or password; write it as %40"
            raise ConfigurationError(msg, field="url")
        self.name = f"postgresql://{host}{f':{port}' if port else ''}/{given.get('dbname') or ''}"

    def __repr__(self) -> str:
        """Show the address, without the password."""
        return f"<Database {self.name}>"

    def session(self) -> Session:
        """Return a session of its own, which connects when it is first used."""
        return Session(self)

    async def connect(self) -> Connection:
        """Open a connection in autocommit mode, that prepares nothing on the server."""
        kind = _connection_kind()
        return await kind.connect(self._conninfo, autocommit=True, prepare_threshold=None)

    @property
    def pool(self) -> Pool | None:
        """The user's own pool, if there is one."""
        return self._pool


class Session:
    """One connection to a database, used by one task at a time; the others wait for their turn."""

    __slots__ = ("_connection", "_database", "_turn", "_used")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._used: Connection | None = None
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        """Show where to."""
        return f"<Session {self._database.name}, {'closed' if self._connection is None else 'open'}>"

    async def rows(self, sql: str, parameters: Parameters = ()) -> Rows:
        """Execute one statement, as a transaction of its own; return its rows. Raises `Failure`."""
        return (await self.transact((sql, parameters)))[-1]

    async def transact(self, *statements: Statement, within: float | None = None) -> list[Rows]:
        """Execute statements in one transaction; return the rows of each. Raises `Failure`.

        They end `within` so many seconds, by default 15. Cancelled, they may or may not have been done.
        """
        async with self._turn, self._working(within) as connection:
            return await _executed(connection, *statements)

    async def rehearse(self, sql: str, parameters: Parameters) -> None:
        """Execute one statement, and take it back. Raises `Failure` where it could not be done."""
        async with self._turn, self._working() as connection, connection.transaction(force_rollback=True):
            await _executed(connection, (sql, parameters))

    @asynccontextmanager
    async def _working(self, within: float | None = None) -> AsyncIterator[Connection]:
        import psycopg  # noqa: PLC0415 - an extra

        begun = False
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (_WORK_SECONDS if within is None else within)
        hang_up = loop.call_at(ends_at, self._hang_up)
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout_at(ends_at):
                    pool = self._database.pool
                    if pool is not None:
                        connection = await stack.enter_async_context(pool.connection(timeout=_CONNECT_SECONDS))
                    else:
                        connection = await self._connected()
                self._used = connection
                begun = True
                yield connection
        except UnicodeEncodeError as error:  # before anything was sent
            msg = (
                f"the connection to the database {self._database.name} has the encoding {error.encoding}, which lacks "
                "a character of a value; connect with client_encoding=UTF8"
            )
            raise Failure(msg, Fate.INVALID) from error
        except (psycopg.Error, OSError, TimeoutError) as error:
            failure = self._failure(error, begun=begun)
            if failure.fate not in {Fate.REFUSED, Fate.INVALID}:
                await self.aclose()
            raise failure from error
        except BaseException:  # cancelled in the middle, or not the server's doing: the session's state is not known
            await self.aclose()
            raise
        finally:
            self._used = None
            hang_up.cancel()

    def _hang_up(self) -> None:
        """Let the work under way fail at once: where a server hangs, to cancel it would take ten seconds more."""
        if self._used is not None:
            _hang_up(self._used)

    async def _connected(self) -> Connection:
        if self._connection is not None and _is_dead(self._connection):
            await self.aclose()
        if self._connection is None:
            self._connection = await self._database.connect()
        return self._connection

    def _failure(self, error: Exception, *, begun: bool) -> Failure:
        code = getattr(error, "sqlstate", None) or ""
        where = f"the database {self._database.name}"
        if not code and begun:
            said = f"was lost in the middle of the work ({type(error).__name__}); check that it runs, and the network"
            return Failure(f"{where} {said}", Fate.LOST)
        if not code:  # the refusal of a login has none either
            said = (
                f"is not reached, or lets nobody in ({_first_line(error)}); check that it runs, the address, the user, "
                "the password and the network"
            )
            return Failure(f"{where} {said}", Fate.UNAVAILABLE)
        said = next(said for beginning, said in _MEANINGS if code.startswith(beginning))
        diagnosis = getattr(error, "diag", None)
        text = getattr(diagnosis, "message_primary", None) or type(error).__name__
        if not begun:
            fate = Fate.UNAVAILABLE
        elif code.startswith(_SESSION_ENDED):
            fate = Fate.LOST
        else:
            fate = Fate.INVALID if code.startswith(_NO_VALUE) else Fate.REFUSED
        return Failure(f"{where} {said.format(text=text)}", fate, code)

    async def aclose(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.close()


@cache
def _connection_kind() -> type[Connection]:
    """Make the class of connections, which hangs up on a server that does not answer when it is asked to cancel."""
    import psycopg  # noqa: PLC0415 - an extra

    class Hasty(psycopg.AsyncConnection[Any]):
        async def cancel_safe(self, *, timeout: float = _CANCEL_SECONDS) -> None:  # noqa: ASYNC109 - the library's
            try:
                await super().cancel_safe(timeout=min(timeout, _CANCEL_SECONDS))
            except psycopg.Error:
                _hang_up(self)
                raise

    return Hasty


def _hang_up(connection: Connection) -> None:
    """Let what is under way on a connection fail at once."""
    import psycopg  # noqa: PLC0415 - an extra

    with suppress(psycopg.Error, OSError):
        line = socket.socket(fileno=connection.pgconn.socket)
        try:
            line.shutdown(socket.SHUT_RDWR)
        finally:
            line.detach()  # it is the library's to close


def _first_line(error: Exception) -> str:
    """Return the words of a server or a library that let nobody in; they never have the password."""
    lines = str(error).splitlines()
    return " ".join(lines[0].split())[:_LONGEST_WORDS] if lines else type(error).__name__


async def _executed(connection: Connection, *statements: Statement) -> list[Rows]:
    """Execute statements with one message, which the server takes as one transaction; return the rows of each.

    The parameters are written into the text: so there is one round trip for all, and nothing is ever prepared, which a
    PgBouncer could look for in another of the server's sessions.
    """
    import psycopg  # noqa: PLC0415 - an extra

    cursor = psycopg.AsyncClientCursor(connection)
    text = ";\n".join(cursor.mogrify(sql.encode(), parameters) if parameters else sql for sql, parameters in statements)
    await cursor.execute(text.encode())
    found: list[Rows] = []
    more: bool | None = True
    while more:
        found.append(await cursor.fetchall() if cursor.description is not None else [])
        more = cursor.nextset()
    return found


class _Made(Protocol):
    @property
    def sql(self) -> str: ...
    @property
    def parameters(self) -> Parameters: ...


_M = TypeVar("_M", bound=_Made)


async def execute_within(target: Any, statement: Callable[[bool], _M]) -> _M:
    """Execute a statement on somebody's async connection or cursor of psycopg, as part of its transaction; return it.

    It is made with numbered markers if `statement` is called with true. Raises what the connection raises, also where
    that is in pipeline mode.
    """
    import psycopg  # noqa: PLC0415 - an extra

    cursor = target.cursor() if isinstance(target, psycopg.AsyncConnection) else target
    made = statement(isinstance(cursor, psycopg.AsyncRawCursor))
    if cursor.connection.pgconn.pipeline_status:  # only a fetch waits for the answer, and ends no transaction
        sql = f"WITH put AS ({made.sql} RETURNING 1) SELECT count(*) FROM put"  # noqa: S608 - our own
        await cursor.execute(sql, made.parameters)
        await cursor.fetchone()
    else:
        await cursor.execute(made.sql, made.parameters)
    return made


def array(values: Iterable[str] | Iterable[int]) -> str:
    """Write an array of texts or of numbers as PostgreSQL reads it: many times as quick as psycopg does.

    The control character U+001F becomes a blank; no id has one.
    """
    listed: list[Any] = list(values)
    if not (listed and isinstance(listed[0], str)):
        return f"{{{str(listed)[1:-1]}}}"
    joined = _BETWEEN.join(listed)
    if joined.count(_BETWEEN) >= len(listed):
        joined = _BETWEEN.join([text.replace(_BETWEEN, " ") for text in listed])
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"').replace(_BETWEEN, '","')
    return f'{{"{escaped}"}}'


def _is_dead(connection: Connection) -> bool:
    """Say whether an idle connection was ended from the other side, which it only shows when it is looked at."""
    import psycopg  # noqa: PLC0415 - an extra

    try:
        for _ in range(2):  # the server's last words, and the end behind them
            connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return connection.closed

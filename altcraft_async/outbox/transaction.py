"""A put as part of somebody else's transaction: the statement, and how each driver is given it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.outbox.tables import ANOTHER_CHANGE
from altcraft_async.storage.postgres import execute_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["PARAMSTYLES", "ParamStyle", "Statement", "bind", "execute_on", "refuses_another_change"]

ParamStyle: TypeAlias = Literal["format", "pyformat", "named", "numeric", "numeric_dollar", "qmark"]
"""The ways in which drivers mark parameters; the names are those of the DB-API and of SQLAlchemy."""

PARAMSTYLES: Mapping[str, Callable[[int], str]] = {
    "format": lambda _: "%s",
    "pyformat": lambda number: f"%(p{number})s",
    "named": lambda number: f":p{number}",
    "numeric": lambda number: f":{number}",
    "numeric_dollar": lambda number: f"${number}",
    "qmark": lambda _: "?",
}
"""How the parameter of a number, from 1, is marked."""

_BY_NAME = frozenset({"pyformat", "named"})


@attrs.frozen
class Statement:
    """One SQL statement that accepts updates into an outbox, when the transaction that it is part of is committed.

    `parameters` are a tuple, or by name a dictionary. `request_ids` has the ``Request-ID`` of each update.
    """

    sql: str
    parameters: tuple[object, ...] | dict[str, object]
    request_ids: tuple[str, ...]


def bind(rows: Sequence[Sequence[object]], paramstyle: str) -> tuple[str, tuple[object, ...] | dict[str, object]]:
    """Write the markers of `rows`, like ``(%s, %s), (%s, %s)``, and give the parameters to them."""
    if paramstyle not in PARAMSTYLES:
        msg = f"paramstyle must be one of {', '.join(PARAMSTYLES)}, not {paramstyle!r}"
        raise ConfigurationError(msg, field="paramstyle")
    mark = PARAMSTYLES[paramstyle]
    values = tuple(value for row in rows for value in row)
    width = len(rows[0])
    marks = [
        f"({', '.join(mark(start + column) for column in range(1, width + 1))})"
        for start in range(0, len(values), width)
    ]
    if paramstyle in _BY_NAME:
        return ", ".join(marks), {f"p{number}": value for number, value in enumerate(values, start=1)}
    return ", ".join(marks), values


async def execute_on(connection: object, statement: Callable[[ParamStyle], Statement]) -> Statement:
    """Execute a statement on a psycopg or asyncpg connection or a SQLAlchemy session, all async, and return it.

    Raises what the connection raises; then its transaction has failed. Raises `ConfigurationError` for anything else.
    See `refuses_another_change` for what is wrong with an error.
    """
    library = _library_of(connection)
    target: Any = connection
    execute = getattr(type(target), "execute", None)  # an engine has none
    if execute is None:
        msg = f"connection is of the class {type(connection).__name__}; give a connection or a session that it makes"
        raise ConfigurationError(msg, field="connection")
    if library in {"psycopg", "sqlalchemy"} and not inspect.iscoroutinefunction(execute):
        msg = (
            f"connection is a {type(connection).__name__} that blocks; give an async one, or execute "
            "PostgresStore.statement() on it yourself"
        )
        raise ConfigurationError(msg, field="connection")
    if library == "psycopg":
        made = await execute_within(target, lambda numbered: statement("numeric_dollar" if numbered else "format"))
    elif library == "asyncpg":
        made = statement("numeric_dollar")
        await target.execute(made.sql, *made.parameters)
    else:
        from sqlalchemy import text  # noqa: PLC0415 - the user's own

        made = statement("named")
        await target.execute(text(made.sql), made.parameters)
    return made


def refuses_another_change(error: BaseException) -> bool:
    """Say whether a request id is that of another change: an error of psycopg, asyncpg, or SQLAlchemy around either."""
    within = getattr(error, "orig", None) or error
    code = getattr(within, "sqlstate", None) or getattr(within, "pgcode", None)
    return isinstance(code, str) and code == ANOTHER_CHANGE


def _library_of(connection: object) -> str:
    """Find by the classes of a connection which library it is of; none of them needs to be installed for that."""
    for kind in type(connection).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in {"psycopg", "asyncpg", "sqlalchemy"}:
            return library
    msg = (
        f"connection must be of psycopg, asyncpg or SQLAlchemy, not a {type(connection).__name__}; for others execute "
        "PostgresStore.statement() yourself"
    )
    raise ConfigurationError(msg, field="connection")

"""What the resources share: a call by its row in the table of methods."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from altcraft_async.engine.work import SingleItem
from altcraft_async.errors import ConfigurationError, DeliveryError, InvalidUpdateError
from altcraft_async.kinds import PATH, refusal
from altcraft_async.market.pages import Listing
from altcraft_async.protocol.methods import UPDATE_LINE_STATUS, Repeat
from altcraft_async.protocol.values import check_request_id
from altcraft_async.protocol.wire import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.engine.delivery import Delivery
    from altcraft_async.engine.dispatch import Dispatcher
    from altcraft_async.flow.lanes import Claim
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.journal.recorder import Journal
    from altcraft_async.journal.seals import Fact
    from altcraft_async.protocol.methods import Method
    from altcraft_async.protocol.values import JSON

__all__ = ["Resource", "flag_of", "journal_of", "name_of", "number_of", "one_of"]

V = TypeVar("V")


def journal_of(
    delivery: Delivery,
    path: str | os.PathLike[str] | None,
    *,
    retry_failed: bool,
    extend: bool,
    method: str = UPDATE_LINE_STATUS.path,
    facts: Mapping[str, Fact] | None = None,
) -> Journal | None:
    """Return the journal that a bulk call asks for by its keywords; `method` and `facts` are of its run."""
    flag_of("retry_failed", retry_failed)
    flag_of("extend", extend)
    if path is None:
        if retry_failed or extend:
            field = "retry_failed" if retry_failed else "extend"
            msg = f"{field} goes with a journal: give journal=PATH, the file that an earlier run wrote"
            raise ConfigurationError(msg, field=field)
        return None
    if not isinstance(path, str | os.PathLike):
        raise refusal(name="journal", words=PATH.words, value=path)
    from altcraft_async.journal.recorder import Journal  # noqa: PLC0415 - most runs keep none

    return Journal(
        path,
        target=delivery.base_url,
        method=method,
        facts=facts,
        retry_failed=retry_failed,
        extend=extend,
        dedup_window=delivery.dedup_window,
        notifier=delivery.notifier,
        begin_at=delivery.gate.begin_at,
    )


class Resource:
    """A resource of the Market: its methods go through the client's dispatcher."""

    __slots__ = ("_dispatcher",)

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __repr__(self) -> str:
        """Show the gate's state."""
        return f"<{type(self).__name__} {self._dispatcher.delivery.gate!r}>"

    async def _ask(
        self,
        method: Method,
        fields: Mapping[str, JSON],
        *,
        topic: str | None = None,
        claims: tuple[Claim, ...] = (),
        request_id: str | None = None,
        deadline: float | None = None,
        outage: OutagePolicy | None = None,
    ) -> dict[str, JSON]:
        """Call `method` and return its envelope, with arrays where the method has them.

        What only reads has never applied anything; what may be applied twice is repeated after
        doubt only under a `request_id` of the caller's.
        """
        item = SingleItem(
            Call(method.path, fields),
            str(uuid4()) if request_id is None else check_request_id(request_id),
            owner=self._dispatcher.caller(),
            claims=claims,
            asked_before=request_id is not None,
            once=method.repeat is Repeat.TWICE and request_id is None,
            topic=topic or method.path,
        )
        try:
            payload = dict(await self._dispatcher.call(item, deadline=deadline, outage=outage))
        except DeliveryError as error:
            if method.repeat is Repeat.READS:
                error.maybe_applied = False
            raise
        method.arrange(payload)
        return payload

    def _listing(
        self,
        method: Method,
        read: Callable[[Mapping[str, JSON]], V],
        *,
        limit: int,
        deadline: float | None,
        outage: OutagePolicy | None,
        **fields: JSON,
    ) -> Listing[V]:
        """Return the list that `method` gives; `read` makes a value of a row, `fields` go with every page's call."""

        async def ask(of_page: Mapping[str, JSON]) -> Mapping[str, JSON]:
            return await self._ask(method, of_page, deadline=deadline, outage=outage)

        return Listing(method, ask, read, fields=fields, limit=limit)


def one_of(**given: int | str | None) -> dict[str, JSON]:
    """Return the one field that was given, checked; raise `ConfigurationError` if it is not exactly one.

    Raises `InvalidUpdateError` for a blank text or one with control characters, and for an ``id`` that is no number.
    """
    fields: dict[str, JSON] = {name: value for name, value in given.items() if value is not None}
    if len(fields) != 1:
        names = " or ".join(given)
        what = f"{' and '.join(fields)} were given" if fields else "none was given"
        msg = f"give exactly one of {names}; {what}"
        raise ConfigurationError(msg, field=next(iter(fields or given)))
    return {name: number_of(name, value) if name == "id" else name_of(name, value) for name, value in fields.items()}


def name_of(field: str, value: object) -> str | int:
    """Return what names something on the platform; raise `InvalidUpdateError` for what cannot. Numbers stay numbers."""
    from altcraft_async.protocol.values.schema import check_name  # noqa: PLC0415 - a quick import of the package

    text = check_name(field, value)
    return value if type(value) is int and field == "profile_id" else text


def number_of(field: str, value: object) -> int:
    """Return a number that the platform gave; raise `InvalidUpdateError` for anything else."""
    if type(value) is not int:
        msg = f"{field} must be a whole number, not {type(value).__name__}; give an external id by its own keyword"
        raise InvalidUpdateError(msg, field=field)
    return value


def flag_of(field: str, value: object) -> bool:
    """Return a flag; raise `ConfigurationError` for what only looks like one: the text "no" is true."""
    if not isinstance(value, bool):
        msg = f"{field} must be True or False, not {value!r}"
        raise ConfigurationError(msg, field=field)
    return value

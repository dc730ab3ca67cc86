"""Whether an answer is the answer to its question: the line that it names, against the line that was asked about.

A kept connection can carry an answer that belongs to another call: a late one,
one given twice, one of a proxy. The envelope of a success echoes the ids of its
line, and by them such an answer is told. Ids are compared without regard to case,
outer blanks, and whether they are numbers or texts. What an answer leaves out, or
says of the status, is no sign; only where connections were seen to bring what nobody
asked for, an answer that does not say all of it is asked for once more.

Guide: "Update order line status".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from altcraft_async.protocol.values import LineKey, UpdatedOrderLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from altcraft_async.protocol.values import JSON, LineStatusUpdate

__all__ = ["another_line", "canonical", "confirms", "echo_of", "line_named", "row_results"]


def echo_of(payload: Mapping[str, JSON], asked: LineStatusUpdate) -> UpdatedOrderLine:
    """Read the envelope's ``data``, an object or an array of one; what it leaves out is what was asked for."""
    data = _data(payload)

    def field(name: str) -> str:
        value = data.get(name)
        return _text(value) or getattr(asked, name)

    return UpdatedOrderLine(field("order_external_id"), field("order_line_external_id"), field("status_external_id"))


def another_line(payload: Mapping[str, JSON], update: LineStatusUpdate) -> LineKey | None:
    """Return the line that the envelope names where it is not the one of the `update` that was asked for, else None."""
    asked = update.order_external_id, update.order_line_external_id
    data = payload.get("data")
    if type(data) is dict:
        order, line = data.get("order_external_id"), data.get("order_line_external_id")
        if order == asked[0] and line == asked[1]:  # the usual case
            return None
    found = _data(payload)
    named = LineKey(
        _text(found.get("order_external_id")) or asked[0], _text(found.get("order_line_external_id")) or asked[1]
    )
    return None if canonical(named) == canonical(asked) else named


def confirms(payload: Mapping[str, JSON], update: LineStatusUpdate) -> bool:
    """Say whether the envelope names the line of the `update` and the status that was asked for."""
    found = _data(payload)
    line = _text(found.get("order_external_id")), _text(found.get("order_line_external_id"))
    asked = update.order_external_id, update.order_line_external_id
    status = _text(found.get("status_external_id")).casefold()
    return canonical(line) == canonical(asked) and status == update.status_external_id.strip().casefold()


def line_named(payload: Mapping[str, JSON]) -> LineKey | None:
    """Return the one line that an envelope names, which is then the answer of a line update; None where it does not."""
    found = _data(payload)
    order, line = _text(found.get("order_external_id")), _text(found.get("order_line_external_id"))
    return LineKey(order, line) if order and line else None


def row_results(payload: Mapping[str, JSON], ids: Iterable[str]) -> list[tuple[int, str] | None] | None:
    """Return what the answer to a batch says of each of its rows, a code and a text; None where it says nothing.

    It may say so in ``result`` or ``data``, as imports of other sections do: by the rows'
    `ids`, then perhaps of some only, or else one after the other. What fits neither, and a row
    whose code cannot be read, has no result of its own.
    """
    for name in ("result", "data"):
        given = payload.get(name)
        results = [given] if isinstance(given, dict) else given
        if isinstance(results, list) and results:
            found = [one for one in results if isinstance(one, dict) and "error" in one]
            if len(found) == len(results):
                return _matched(found, list(ids))
    return None


def _matched(results: Sequence[Mapping[str, JSON]], ids: Sequence[str]) -> list[tuple[int, str] | None] | None:
    named = {_text(one.get("external_id")): one for one in results}
    if len(named) == len(results) and named.keys() <= set(ids):
        return [_result(named[one]) if one in named else None for one in ids]
    return [_result(one) for one in results] if len(results) == len(ids) else None


def _result(said: Mapping[str, JSON]) -> tuple[int, str] | None:
    code, text = said.get("error"), said.get("error_text")
    if isinstance(code, str) and code.strip().isdecimal():
        code = int(code)
    return (code, text if isinstance(text, str) else "") if type(code) is int else None


def canonical(key: tuple[str, str]) -> tuple[str, str]:
    """Return what is equal for all ways to write the ids of one line."""
    return key[0].strip().casefold(), key[1].strip().casefold()


def _data(payload: Mapping[str, JSON]) -> Mapping[str, JSON]:
    data = payload.get("data")
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    return data if isinstance(data, dict) else {}


def _text(value: JSON) -> str:
    """Return an id as text, empty where there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return value.strip() if isinstance(value, str) else str(value)

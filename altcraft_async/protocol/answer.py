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

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from altcraft_async.protocol.methods import ROWS
from altcraft_async.protocol.plain import code_of
from altcraft_async.protocol.values import LineKey, UpdatedOrderLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from altcraft_async.protocol.values import JSON, LineStatusUpdate

__all__ = ["RowSaid", "another_line", "canonical", "confirms", "echo_of", "line_named", "row_results"]


def echo_of(payload: Mapping[str, JSON], asked: LineStatusUpdate, clean: Callable[[str], str]) -> UpdatedOrderLine:
    """Read the envelope's ``data``, an object or an array of one; what it leaves out is what was asked for.

    `clean` makes a text fit to be shown that is not what was asked for.
    """
    data = _data(payload)

    def field(name: str) -> str:
        value, own = data.get(name), getattr(asked, name)
        return own if value == own else clean(_text(value)) or own

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


class RowSaid(NamedTuple):
    """What an answer says of one row of a batch: its code, None where it cannot be read, and a text."""

    code: int | None
    text: str = ""


_ENDS: Final = frozenset({"error", "errortext", "errorcode", "errors", "success"})
"""Names of fields, without case and underscores, that say how a row ended; only the first two can be read."""
_UNREADABLE: Final = RowSaid(None, "what the answer says of the row cannot be read")
_CONTRADICTED: Final = RowSaid(None, "the answer refuses the batch, and says of this row that it was taken")
_OF_ANOTHER: Final = RowSaid(None, "the answer says of a row that it does not name how that ended, perhaps of this one")


def row_results(
    payload: Mapping[str, JSON], ids: Sequence[str], *, refused: bool = False
) -> list[RowSaid | None] | None:
    """Return what the answer to a batch says of each of its rows; None where it says nothing of any.

    It may say so in ``result`` or ``data``, as imports of other sections do: by the rows' `ids`, then perhaps of
    some only, or else one after the other; names of fields are compared without case and underscores, and what
    stands around the rows is taken away. A row of which it says nothing ended as the batch did, which `refused`
    tells; but where it says of a row that cannot be found that this ended otherwise, that may be any of those.
    What a refused batch says of a row that was taken, cannot be relied on: it may be that nothing was.
    """
    for name in ROWS:
        results = _spread(payload.get(name))
        if any(_speaks(one) for one in results):
            said = [_result(one, refused=refused) for one in results]
            return _matched(said, [_name_of(one) for one in results], ids, refused=refused)
    return None


def _spread(given: JSON, depth: int = 3) -> Sequence[JSON]:
    """Return what stands for the rows, without what stands around them all, or around each."""
    if isinstance(given, dict):
        if _speaks(given):
            return [given]
        if all(_speaks(one) for one in given.values()):  # by id
            return [{"external_id": name, **one} for name, one in given.items() if isinstance(one, dict)]
        inside = next(iter(given.values()))
        return _spread(inside, depth - 1) if len(given) == 1 and depth and isinstance(inside, dict | list) else [given]
    if not isinstance(given, list) or not given:
        return []
    if len(given) == 1 and depth and isinstance(given[0], dict | list) and not _speaks(given[0]):
        return _spread(given[0], depth - 1)
    return [_bare(one) for one in given]


def _bare(one: JSON) -> JSON:
    """Take away an element that stands around one row."""
    if isinstance(one, dict) and len(one) == 1 and not _speaks(one):
        (inside,) = one.values()
        return inside if isinstance(inside, dict) else one
    return one


def _folded(said: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name.replace("_", "").casefold(): value for name, value in said.items()}


def _speaks(one: JSON) -> bool:
    """Say whether something in the place of a row says how that ended."""
    return isinstance(one, dict) and not _ENDS.isdisjoint(_folded(one))


def _matched(
    results: Sequence[RowSaid | None], names: Sequence[str], ids: Sequence[str], *, refused: bool
) -> list[RowSaid | None]:
    if not any(names) and len(results) == len(ids):
        return [*results]
    named: dict[str, list[RowSaid | None]] = {}
    for name, result in zip(names, results, strict=True):
        named.setdefault(name, []).append(result)
    found = [_one_of(named.pop(one.strip(), ())) for one in ids]
    if named:
        likely = Counter(map(_like, ids))
        for place, one in enumerate(ids):
            if found[place] is None and likely[_like(one)] == 1:
                found[place] = _one_of(
                    [said for name in [*named] if _like(name) == _like(one) for said in named.pop(name)]
                )
    lost = [said for some in named.values() for said in some]
    if any(said is not None and (said.code is None or (said.code == 0) is refused) for said in lost):
        return [_OF_ANOTHER if said is None else said for said in found]
    return found


def _one_of(results: Sequence[RowSaid | None]) -> RowSaid | None:
    """Return what was said of a row; several times only where it was the same."""
    codes = {None if result is None else result.code for result in results}
    return _UNREADABLE if len(codes) > 1 else results[0] if results else None


def _result(said: JSON, *, refused: bool) -> RowSaid | None:
    """Read what stands in the place of a row; one without a code says nothing."""
    if not isinstance(said, dict):
        return _UNREADABLE
    known = _folded(said)
    text = known.get("errortext")
    text = text if isinstance(text, str) else ""
    code = known.get("error")
    if code in (None, "") and not text and _ENDS.isdisjoint(known.keys() - {"error", "errortext"}):
        return None
    found = code_of(code)
    if found is None:
        return _UNREADABLE
    return _CONTRADICTED if refused and found == 0 else RowSaid(found, text)


def _name_of(said: JSON) -> str:
    return _text(_folded(said).get("externalid")) if isinstance(said, dict) else ""


def _like(name: str) -> str:
    """Return what is equal for all ways to write an id."""
    return name.strip().casefold()


def canonical(key: tuple[str, str]) -> tuple[str, str]:
    """Return what is equal for all ways to write the ids of one line."""
    return _like(key[0]), _like(key[1])


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

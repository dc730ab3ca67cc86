"""What a client has asked about lately, and whether its connections deserve trust."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import attrs

from altcraft_async.protocol.answer import canonical

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.protocol.values import LineKey, LineStatusUpdate

__all__ = ["Questions"]

_REMEMBERED: Final = 4096
"""Lines in each of two generations: more than are in flight, and than go over a connection within seconds."""
_ENOUGH: Final = 10
"""Answers under another name that were confirmed before more of their kind are taken at once."""
_DISTRUST: Final = 60.0
"""Seconds for which answers that do not name their line and status are confirmed, once a connection was not clean."""

ValueT = TypeVar("ValueT")
_log = logging.getLogger("altcraft_async")


class _Recent(Generic[ValueT]):
    """What was put last, by a number: in two generations, of which the older one is forgotten as a whole."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now: dict[int, ValueT] = {}
        self._before: dict[int, ValueT] = {}

    def get(self, key: int) -> ValueT | None:
        found = self._now.get(key)
        return self._before.get(key) if found is None else found

    def put(self, key: int, value: ValueT) -> None:
        if len(self._now) >= _REMEMBERED:
            self._before, self._now = self._now, {}
        self._now[key] = value

    def drop(self, key: int) -> None:
        self._now.pop(key, None)
        self._before.pop(key, None)


@attrs.define
class _Given:
    """For which line an unknown name was given first, and whether for another one too."""

    line: int
    contested: bool = False


class Questions:
    """The memory of one client and its copies, by which an answer of another line is told."""

    __slots__ = ("_accepted", "_before", "_called", "_distrusted_until", "_given", "_now", "_warned")

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()
        self._distrusted_until = float("-inf")
        self._accepted = 0
        self._warned = False
        self._given: _Recent[_Given] = _Recent()
        self._called: _Recent[int] = _Recent()

    def __repr__(self) -> str:
        """Show how many lines are remembered."""
        return f"<Questions {len(self._now) + len(self._before)} lines>"

    def ask(self, update: LineStatusUpdate) -> None:
        """Take note that a request about a line goes out."""
        if len(self._now) >= _REMEMBERED:
            self._before, self._now = self._now, set()
        self._now.add(hash((update.order_external_id, update.order_line_external_id)))

    def knows(self, line: LineKey) -> bool:
        """Say whether a request about the line went out lately."""
        asked = hash((line[0], line[1]))
        return asked in self._now or asked in self._before

    def distrust(self, now: float) -> None:
        """Take note of an answer that was another line's, or of bytes that nobody had asked for."""
        self._distrusted_until = now + _DISTRUST

    def suspicious(self, now: float) -> bool:
        """Say whether there were such within the last minute."""
        return now < self._distrusted_until

    def gave(self, name: LineKey, line: LineKey, *, before: LineKey | None) -> bool:
        """Take note that an answer gave a `line` this `name`; say whether it gave that name to no other line.

        The name that was given `before`, in the last answer to the same question, is free again where it was another.
        """
        said, asked = hash(canonical(name)), hash((line[0], line[1]))
        if before is not None and (old := hash(canonical(before))) != said:
            given = self._given.get(old)
            if given is not None and given.line == asked:
                self._given.drop(old)
        given = self._given.get(said)
        if given is None:
            self._given.put(said, _Given(asked))
            return True
        if given.line != asked:
            given.contested = True
            self._accepted = 0  # no habit of a platform: different lines have different names there
        return not given.contested

    def expects(self, name: LineKey, line: LineKey) -> bool:
        """Say whether the platform is known to have names of its own for lines, and no other than this for the line."""
        called = self._called.get(hash((line[0], line[1])))
        return self._accepted >= _ENOUGH and called in {None, hash(canonical(name))}

    def accept(self, name: LineKey, line: LineKey, clean: Callable[[str], str]) -> None:
        """Take note that the platform calls a line by another name, as it confirmed; warn once, with a `clean` text."""
        if not self._warned:
            self._warned = True
            said = "the platform answers with other ids than it was asked for (%s); that is accepted"
            _log.warning(said, clean(f"{name[0]}/{name[1]}"))
        self._accepted += 1
        self._called.put(hash((line[0], line[1])), hash(canonical(name)))

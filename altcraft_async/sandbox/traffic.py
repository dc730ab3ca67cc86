"""The requests that the sandbox got, for people and for tests in any language: the newest, and the refused ones.

Pure except for the future that signals news. It never has a token: bodies are redacted before they are kept.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from altcraft_async.sandbox.redaction import redacted_body, redacted_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["LOOKED_FOR_FROM", "Refusals", "Result", "Seen", "Traffic"]

_LINES_KEPT = 10_000
"""Order lines whose last refusal is kept: enough to read, and a bound on the memory."""
LOOKED_FOR_FROM = 6
"""Shorter tokens of callers are not looked for in texts: they would be found inside ordinary words."""
_HEADERS = ("Content-Type", "User-Agent", "Request-ID", "X-Request-ID", "Request-Timeout")
"""What is kept of a request's head; whatever else stands there may be a secret."""


class Result(enum.StrEnum):
    """How one request ended."""

    APPLIED = "applied"
    """Its change, or its import, was made."""
    ANSWERED = "answered"
    """It was answered, and changed no line: a list, a deletion and the like."""
    REPLAYED = "replayed"
    """A repeat: it got the earlier answer, and nothing was made twice."""
    REFUSED = "refused"
    """The server said no, finally; `Seen.code` and `Seen.reason` say why."""
    THROTTLED = "throttled"
    """Back-pressure, 425, 429 or 503; nothing was changed."""
    FAILED = "failed"
    """A fault, with nothing changed: another error, an HTML page, a reset."""
    CUT = "cut"
    """The client went away in the middle of its request."""


@attrs.frozen(kw_only=True, slots=True)
class Seen:
    """One request and its answer, without any token.

    `number` counts requests from 1, `at` is the Unix time of its arrival, `seconds` its duration. `order`, `line` and
    `status` are those of an update, empty for other methods; `rows` counts those of an import. `fault` names the
    fault, empty without one; a request can be applied and its answer lost. `code` and `reason` are those of the
    envelope, 0 and empty for a yes.
    """

    number: int
    at: float
    seconds: float
    node: int
    method: str
    request_id: str | None
    order: str
    line: str
    status: str
    rows: int
    result: Result
    fault: str
    http_status: int
    code: int
    reason: str
    headers: Mapping[str, str]
    body: str
    answer: str

    def brief(self) -> dict[str, object]:
        """Return it as a JSON object without headers and bodies."""
        return attrs.asdict(self, filter=lambda field, _: field.name not in {"headers", "body", "answer"})

    def whole(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return attrs.asdict(self)


@attrs.define(slots=True)
class Refusals:
    """The refusals of one order line: the last one, how many, and whether an update was applied later."""

    last: Seen
    times: int = 1
    applied_later: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {**self.last.brief(), "times": self.times, "applied_later": self.applied_later}


class Traffic:
    """The newest `keep` requests, and the last refusal of each order line; `tokens` never show in it."""

    __slots__ = ("_entries", "_keep", "_news", "_number", "_refusals", "counts", "start", "tokens")

    def __init__(self, keep: int, tokens: Iterable[str]) -> None:
        self._keep = keep
        self.tokens = tuple(tokens)
        self._number = 0
        self._news: asyncio.Future[None] | None = None
        self.clear()

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<Traffic: {len(self._entries)} of {self._number} requests>"

    def clear(self) -> None:
        """Forget all requests; numbers go on.

        `start` is the number of the last one forgotten, `counts` how many ended in each way since.
        """
        self._entries: deque[Seen] = deque(maxlen=self._keep)
        self._refusals: dict[tuple[str, str, str], Refusals] = {}
        self.counts: Counter[Result] = Counter()
        self.start = self._number
        self.tell()

    # -- written by the server ------------------------------------------------------------------

    def add(self, headers: Mapping[str, str], body: bytes, answer: bytes, facts: Mapping[str, object]) -> None:
        """Keep one request; `facts` are the fields of `Seen` but number, headers, body and answer."""
        self._number += 1
        self.counts[Result(str(facts["result"]))] += 1
        if not self._keep:
            self.tell()
            return
        tokens = [*self.tokens, *_given(headers)]
        clean = {name: redacted_text(fact, tokens) if type(fact) is str else fact for name, fact in facts.items()}
        seen = Seen(
            **clean,  # type: ignore[arg-type]
            number=self._number,
            headers={name: redacted_text(headers[name], tokens) for name in _HEADERS if name in headers},
            body=redacted_body(body, tokens),
            answer=redacted_body(answer, tokens),
        )
        self._entries.append(seen)
        self._note_refusal(seen)
        self.tell()

    def _note_refusal(self, seen: Seen) -> None:
        # What is about no line is kept by method and reason, so that a wrong token in a loop is one row.
        key = (seen.order, seen.line, "") if seen.order else (seen.method, str(seen.code), seen.reason)
        known = self._refusals.get(key)
        if seen.code and seen.result in {Result.REFUSED, Result.REPLAYED}:
            self._refusals.pop(key, None)
            self._refusals[key] = Refusals(seen, 1 if known is None else known.times + 1)
            if len(self._refusals) > _LINES_KEPT:
                del self._refusals[next(iter(self._refusals))]
        elif known is not None and seen.result is Result.APPLIED:
            known.applied_later = True

    def tell(self) -> None:
        """Wake whoever waits for `news`."""
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)

    # -- read -----------------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """The number of the newest request, 0 before the first."""
        return self._number

    def since(self, number: int, limit: int) -> Sequence[Seen]:
        """Return the requests after `number`, at most the newest `limit`, the oldest first."""
        behind = min(self._number - number, len(self._entries), limit)
        return list(islice(self._entries, len(self._entries) - behind, None)) if behind > 0 else []

    def newest(self) -> Sequence[Seen]:
        """Return all requests kept, the newest first."""
        return list(reversed(self._entries))

    def get(self, number: int) -> Seen | None:
        """Return the request with this number, or None if it is not kept any more."""
        place = number - self._number + len(self._entries) - 1
        return self._entries[place] if 0 <= place < len(self._entries) else None

    def refusals(self) -> Sequence[Refusals]:
        """Return the refusals, one for each line, the newest first."""
        return list(reversed(self._refusals.values()))

    @property
    def refused_now(self) -> int:
        """How many of the `refusals` were not applied later."""
        return sum(not one.applied_later for one in self._refusals.values())

    def news(self) -> asyncio.Future[None]:
        """Return a future that ends at the next news; it is shared, so wait with `asyncio.wait`."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        return self._news


def _given(headers: Mapping[str, str]) -> Iterable[str]:
    """Return the tokens that a caller may have sent in a header."""
    words = headers.get("Authorization", "").split()
    return (word for word in words if len(word) >= LOOKED_FOR_FROM and word.lower() != "bearer")

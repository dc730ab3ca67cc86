"""One emulated account: who may call, what each method does, which answer was given before.

Between `reading` (bytes) and `server` (connections). No asyncio and no clock:
a call is performed in one step, so the server alone decides when, and two calls
can never be half done at once.

API guide: "General information", "Deduplication of requests".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import attrs

from altcraft_async.sandbox.handlers import HANDLERS, put_order
from altcraft_async.sandbox.ledger import Ledger
from altcraft_async.sandbox.reading import Fields, Refusal, read_body, write_answer
from altcraft_async.sandbox.shapes import IMPORTS, METHODS, READS, read_fields
from altcraft_async.sandbox.snapshot import SNAPSHOT, check_snapshot
from altcraft_async.sandbox.state import Answer, Answers, Market, Record, StateFile, order_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from altcraft_async.sandbox.readings import Readings

__all__ = ["Account", "AccountRules", "Call", "Refused", "duplicate_key", "method_of"]

UPDATE = "market/orders/update_order_line_status"

_PREFIX = "/api/v1.1/"
_NO_MARKET = "no access: the role of this token does not include the market"
_CHECKSUM_METHODS = IMPORTS | {UPDATE}
_UNSTABLE_HEADERS = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_SCRUBBED_FROM = 6
"""Shorter wrong tokens are not looked for in error texts: they would be found inside ordinary words."""
_CONTENT_TYPES = {False: "application/json; charset=utf-8", True: "application/xml; charset=utf-8"}


@attrs.frozen(kw_only=True)
class AccountRules:
    """How the account treats its callers; see `altcraft_async.sandbox.Sandbox` for each."""

    error_style: str
    answer_format: str | None
    dedup_request_id: bool
    dedup_checksum: bool
    market_right: bool
    wrong_token_code: int
    readings: Readings


@attrs.frozen(slots=True)
class Call:
    """One request that may be performed.

    `key` is its deduplication key, None where none applies; `line` is the order
    line that it is about, None for other methods, `rows` the kind and ids of an import's
    rows; `about` is what it asks for, to tell a retry from an id used twice; `xml` is the
    format of its answer. `node` is the one of the account's nodes that it came to.
    """

    method: str
    fields: Fields
    request_id: str | None
    key: str | None
    line: tuple[str, str] | None
    about: tuple[str, ...]
    xml: bool
    rows: tuple[tuple[str, str], ...] = ()
    node: int = 0


class Account:
    """The state of one account and the rules of its API.

    `answers` are what each of its nodes remembers; all else is common to them.
    """

    __slots__ = (
        "_custom_at_start",
        "_file",
        "_records",
        "_restored",
        "_roles",
        "_token",
        "answers",
        "ledger",
        "market",
        "rules",
    )

    def __init__(  # noqa: PLR0913 - the parts of an account
        self,
        token: str,
        rules: AccountRules,
        *,
        market: Market,
        answers: Sequence[Answers],
        ledger: Ledger,
        file: StateFile | None,
        roles: Mapping[str, str],
    ) -> None:
        self._token = token
        self._roles = {token: "market", **roles}
        self.rules = rules
        self.market = market
        self.answers = answers
        self.ledger = ledger
        self._file = file
        self._records: list[Record] = []
        self._restored = False
        self._custom_at_start = frozenset(market.custom_statuses)

    def __repr__(self) -> str:
        """Show what is remembered, never the token."""
        return f"<Account: {len(self.market)} orders, {sum(map(len, self.answers))} answers kept>"

    # -- the file -------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Open the state file, if there is one, and take in what it holds; raises `ConfigurationError`."""
        if self._file is None:
            return
        try:
            for record in self._file.open():
                if not self._restored:
                    self._restore(record, now)
        except BaseException:
            self._file.close()
            raise
        if not self._restored and self.market.orders:
            # What was seeded before the start is written now; a second write of a known order changes nothing.
            self._records.extend(order_records(self.market, self.market.orders))
        self._restored = True
        self._write()

    def close(self) -> None:
        """Close the state file."""
        if self._file is not None:
            self._file.close()

    def _restore(self, record: Mapping[str, object], now: float) -> None:
        fields: Fields = dict(record)
        restore = _RESTORERS.get(fields.get("kind", ""))
        if restore is not None:
            restore(self, fields, now)

    @property
    def readings(self) -> Readings:
        """How it takes what the guide leaves open."""
        return self.rules.readings

    @property
    def keeps_file(self) -> bool:
        """Whether changes are written down."""
        return self._file is not None

    def note(self, record: Record) -> None:
        """Have a change written to the file, with the answer to its call."""
        if self._file is not None:
            self._records.append(record)

    def _write(self) -> None:
        if self._records and self._file is not None and self._restored:
            self._file.write(*self._records)
        if self._file is None or self._restored:
            self._records.clear()

    # -- all of it --

    def snapshot(self) -> Record:
        """Return orders, goods, answers and ledger as a JSON object that `restore` takes."""
        return {
            "format": SNAPSHOT,
            "market": self.market.dump(),
            "answers": [answers.dump() for answers in self.answers],
            "ledger": self.ledger.dump(),
        }

    def restore(self, document: Mapping[str, Any]) -> None:
        """Replace everything by what `snapshot` returned; raises `ConfigurationError` for what is none."""
        check_snapshot(document)
        if self._file is not None and not self._restored:
            msg = "the sandbox keeps a state file, which is not open yet; start it first"
            raise RuntimeError(msg)
        self.take_in(document)
        self.note({"kind": "snapshot", "document": document})
        self._write()

    def reset(self) -> None:
        """Forget everything but the custom statuses that were there at the start."""
        nothing = Account(
            self._token,
            self.rules,
            market=Market(),
            answers=[Answers(one.window) for one in self.answers],
            ledger=Ledger(),
            file=None,
            roles={},
        )
        self.restore(nothing.snapshot())

    def take_in(self, document: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot that has been checked; nodes that there are not any more are left out."""
        self.market.load(document["market"])
        self.market.custom_statuses |= self._custom_at_start
        for answers, rows in zip(self.answers, (*document["answers"], *([] for _ in self.answers)), strict=False):
            answers.load(rows)
        self.ledger.load(document["ledger"])

    # -- orders made without a request ----------------------------------------------------------

    def seed(self, orders: Iterable[tuple[str, str, str, Mapping[str, str]]]) -> None:
        """Make orders ``(external_id, endpoint, status, lines)``; one that is there stays as it is."""
        made = []
        for external_id, endpoint, status, lines in orders:
            if external_id not in self.market.orders:
                self.market.put(external_id, endpoint=endpoint, status=status, lines=lines)
                made.append(external_id)
        if self._file is not None and self._restored:
            self._records.extend(order_records(self.market, made))
            self._write()

    def put_rows(self, kind: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Make orders, products or SKU of rows with the platform's names."""
        for given in rows:
            row: Fields = dict(given)
            if kind == "orders":
                put_order(self, row)
                for record in order_records(self.market, [row["external_id"]]):
                    self.note(record)
            else:
                self.market.goods[kind].put(row)
                self.note({"kind": "goods", "of": kind, "rows": [row]})
        self._write()

    # -- reading a request ----------------------------------------------------------------------

    def read(self, path: str, headers: Mapping[str, str], body: bytes, *, node: int = 0) -> Call:
        """Turn a request that came to a node into a call; raises `Refused`."""
        method = method_of(path)
        if method is None:
            known = ", ".join(_PREFIX + name for name in METHODS)
            raise Refused(self.envelope(404, f"there is no such method here; known are {known}", status=404))
        xml = self.rules.answer_format == "xml"
        given: list[str] = []
        try:
            raw, came_as_xml = read_body(headers.get("Content-Type", ""), body)
            if self.rules.answer_format is None:
                xml = raw.get("format") == "xml"
            self._authorize(raw, headers.get("Authorization"), given)
            token = given[0] or given[-1]
            _check_role(self._roles[token], method)
            fields = read_fields(method, raw, xml=came_as_xml, partial=self.readings.partial_imports)
        except Refusal as refusal:
            raise Refused(self.refusal(refusal.code, refusal.text, xml=xml, given=given)) from None
        fields.pop("token", None)
        line: tuple[str, str] | None = None
        about: tuple[str, ...] = (method,)
        if method == UPDATE:
            line = (fields["order_external_id"], fields["order_line_external_id"])
            about = (method, *line, fields["status_external_id"])
        rows: tuple[tuple[str, str], ...] = ()
        if method in IMPORTS:
            kind = method.split("/")[1]
            rows = tuple((kind, row["external_id"]) for row in fields["data"] if not isinstance(row, Refusal))
            about = (method, *(name for _, name in rows))
        request_id = headers.get("Request-ID") or headers.get("X-Request-ID") or None
        key = self._key(method, request_id, headers, body)
        if key is not None and token != self._token:  # an id is scoped to its token
            key = f"{hashlib.sha256(token.encode()).hexdigest()[:8]} {key}"
        return Call(method, fields, request_id, key, line, about, xml, rows, node)

    def _authorize(self, fields: Fields, authorization: str | None, given: list[str]) -> None:
        if "token" in fields:
            token = fields["token"]
            if token is not None and not isinstance(token, str):
                raise Refusal(400, "token: must be a string")
            given.append(token or "")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise Refusal(401, "token required: the header Authorization must be of the form 'Bearer <token>'")
            given.append(token.strip())
        if not any(given):
            raise Refusal(401, "token required: give it as the field 'token' or as the header 'Authorization: Bearer'")
        if not any(self._all_are(token, given) for token in self._roles):
            raise Refusal(self.rules.wrong_token_code, "the token is not valid")
        if not self.rules.market_right:
            raise Refusal(403, _NO_MARKET)

    @staticmethod
    def _all_are(token: str, given: Iterable[str]) -> bool:
        own = token.encode()
        return all(hmac.compare_digest(one.encode("utf-8", "replace"), own) for one in given)

    def _key(self, method: str, request_id: str | None, headers: Mapping[str, str], body: bytes) -> str | None:
        if request_id is not None:
            return f"id {request_id}" if self.rules.dedup_request_id else None
        if not self.rules.dedup_checksum or method not in _CHECKSUM_METHODS:
            return None
        lines = sorted(
            f"{name.lower()}: {value}" for name, value in headers.items() if name.lower() not in _UNSTABLE_HEADERS
        )
        return "sum " + hashlib.sha256("\n".join((method, *lines, "")).encode() + body).hexdigest()

    # -- performing a call ----------------------------------------------------------------------

    def perform(self, call: Call, now: float) -> Answer:
        """Do what a call asks for, keep the answer for its repeats, and return it."""
        answer = HANDLERS[call.method](self, call)
        self.keep(call, answer, now)
        return answer

    def keep(self, call: Call, answer: Answer, now: float) -> None:
        """Remember the answer under the call's key, and write everything new to the file."""
        if call.key is not None:
            self.answers[call.node].put(call.key, answer, call.about, now)
            if self._file is not None:
                kept: Record = {"kind": "answer", "key": call.key, "at": now, "about": call.about, "name": answer.kind}
                kept |= {"status": answer.status, "type": answer.content_type, "body": answer.body.decode()}
                kept |= {"node": call.node, "code": answer.code, "reason": answer.reason}
                self._records.append(kept)
        self._write()

    def keep_first(self, call: Call, answer: Answer, now: float) -> None:
        """Remember an answer, unless there is one for this call."""
        if call.key is not None and self.answers[call.node].get(call.key, now) is None:
            self.keep(call, answer, now)

    def repeat(self, call: Call, now: float) -> Answer | None:
        """Return the answer that the same node gave before to the same call, or None."""
        kept = None if call.key is None else self.answers[call.node].get(call.key, now)
        if kept is None:
            return None
        answer, about = kept
        if about is not None and about != call.about:
            self.ledger.id_conflicts += 1
        return answer

    # -- answers --------------------------------------------------------------------------------

    def success(self, payload: Mapping[str, object], text: str, *, kind: str, xml: bool) -> Answer:
        """Return an envelope that says yes."""
        body = write_answer({**payload, "error": 0, "error_text": text}, xml=xml)
        return Answer(200, _CONTENT_TYPES[xml], body, kind)

    def refusal(self, code: int, text: str, *, xml: bool, given: Iterable[str] = ()) -> Answer:
        """Return an envelope that says no, in the account's error style."""
        text = self._scrubbed(text, given)
        status = 200 if self.rules.error_style == "http200" else code
        return self.envelope(code, text, status=status, xml=xml, kind=f"refused {code}")

    def envelope(self, code: int, text: str, *, status: int, xml: bool | None = None, kind: str = "") -> Answer:
        """Return an envelope that says no under a chosen HTTP status."""
        if xml is None or self.rules.answer_format is not None:
            xml = self.rules.answer_format == "xml"
        body = write_answer({"error": code, "error_text": text}, xml=xml)
        return Answer(status, _CONTENT_TYPES[xml], body, kind or f"refused {code}", code=code, reason=text)

    def _scrubbed(self, text: str, given: Iterable[str]) -> str:
        """Take the token out, also where it came in the wrong field and was shortened."""
        for token in (self._token, *(token for token in given if len(token) >= _SCRUBBED_FROM)):
            for length in (len(token), 80, 40):
                if 0 < length <= len(token):
                    text = text.replace(token[:length], "[token]")
        return text


def _check_role(role: str, method: str) -> None:
    if role == "none":
        raise Refusal(403, _NO_MARKET)
    if role == "read" and method not in READS:
        raise Refusal(403, "no access: the role of this token may only read")


def _restore_orders(account: Account, fields: Fields, _: float) -> None:
    for external_id, endpoint, status, lines, *row in fields["orders"]:
        account.market.put(external_id, endpoint=endpoint, status=status, lines=lines, row=row[0] if row else None)


def _restore_custom(account: Account, fields: Fields, _: float) -> None:
    account.market.custom_statuses.update(fields["ids"])


def _restore_line(account: Account, fields: Fields, _: float) -> None:
    order, line, status = fields["change"]
    account.market.set_line(order, line, status)
    account.ledger.applied((order, line), status, fields["request_id"])


def _restore_goods(account: Account, fields: Fields, _: float) -> None:
    for row in fields["rows"]:
        account.market.goods[fields["of"]].put(row)


def _restore_gone(account: Account, fields: Fields, _: float) -> None:
    for external_id in fields["ids"]:
        account.market.forget(fields["of"], external_id)


def _restore_imported(account: Account, fields: Fields, _: float) -> None:
    for external_id, mark in fields["marks"]:
        account.ledger.imported(fields["of"], external_id, mark, fields["request_id"])


def _restore_answer(account: Account, fields: Fields, now: float) -> None:
    node = fields.get("node", 0)
    if node < len(account.answers) and now - fields["at"] < account.answers[node].window:
        told = {"code": fields.get("code", 0), "reason": fields.get("reason", "")}
        answer = Answer(fields["status"], fields["type"], fields["body"].encode(), fields["name"], **told)
        account.answers[node].put(fields["key"], answer, tuple(fields["about"]), fields["at"])


def _restore_snapshot(account: Account, fields: Fields, _: float) -> None:
    account.take_in(fields["document"])


_RESTORERS: Mapping[str, Callable[[Account, Fields, float], None]] = {
    "orders": _restore_orders,
    "custom": _restore_custom,
    "line": _restore_line,
    "goods": _restore_goods,
    "gone": _restore_gone,
    "imported": _restore_imported,
    "answer": _restore_answer,
    "snapshot": _restore_snapshot,
}
"""How each kind of record in the file is taken in."""


class Refused(Exception):  # noqa: N818 - carries an answer
    """A request ends in this answer before it can be performed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.kind)
        self.answer = answer


def method_of(path: str) -> str | None:
    """Return the method that a URL path names, or None where the sandbox has no such one."""
    method = path.removeprefix(_PREFIX)
    return method if method != path and method in METHODS else None


def duplicate_key(key: str) -> str:
    """Return the value of the header ``Duplicate-Key`` for a deduplication key."""
    return base64.b64encode(hashlib.sha256(key.encode()).digest()).decode("ascii")

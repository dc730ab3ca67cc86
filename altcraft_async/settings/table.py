"""The table of settings: one row for each, from which all that reads or shows them is made.

A setting is one row here and one field of `Settings` or of a value within it. From
the row come its environment variable, its option on the command line, its key in
TOML, whether a client's copy may differ in it, and its line in the documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from altcraft_async.flow.limit import Adaptive, Shared
from altcraft_async.kinds import CODES, FLAG, NUMBER, PATH, RETRIES, SECONDS, WHOLE, Kind, choice, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from altcraft_async.settings.values import Settings

__all__ = [
    "BY_NAME",
    "CONCURRENCY",
    "CREDENTIALS",
    "FILE",
    "KEYWORDS",
    "OF_PATHS",
    "OF_THE_POOL",
    "PREFIX",
    "RATE",
    "TABLE",
    "Setting",
    "near_misses",
    "nearest",
    "variables",
]

PREFIX: Final = "ALTCRAFT_"

_CLOSE = 0.8
"""How alike two names must be for one to be a slip of the other: ``TOKN`` is one, ``CLIENT_ID`` is none."""


def _path(fields: str) -> tuple[str, ...]:
    return tuple(fields.split("."))


@attrs.frozen
class Setting:
    """One setting.

    `name` is its key in TOML, from which `variable` and `option` are made. `kind` says
    how it is read; a setting without one is an object, and only a keyword. `help` is
    one line for people. `path` leads to its field: the client's keyword first, then
    fields of the values within; for most it is the name. `pool` marks what a client
    shares with its copies. Without `flag` the command line has no option for it: what
    is seldom needed is set by the environment alone. `stored` turns the value that was
    read into the field's.
    """

    name: str
    kind: Kind | None
    help: str
    path: tuple[str, ...] = attrs.field(
        default=attrs.Factory(lambda self: self.name, takes_self=True), converter=_path, kw_only=True
    )
    pool: bool = attrs.field(default=False, kw_only=True)
    flag: bool = attrs.field(default=True, kw_only=True)
    stored: Callable[[object], object] = attrs.field(default=lambda value: value, kw_only=True, repr=False)

    @property
    def keyword(self) -> str:
        """The client's keyword that sets it, alone or together with others."""
        return self.path[0]

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """Its option on the command line, which exists where `flag` is set."""
        return "--" + self.name.replace("_", "-")

    def of(self, settings: Settings) -> object:
        """Return its value in `settings`."""
        value: object = settings
        for field in self.path:
            value = getattr(value, field)
        return value


def _shared(text: str, number: Callable[[str], float]) -> object:
    """Read ``host:64`` and ``drainers:64``: a total that those share; or just a number."""
    among, colon, total = text.rpartition(":")
    if not colon:
        return number(total)
    if among not in {"host", "drainers"}:
        raise LookupError(among)
    return Shared(number(total), among="host" if among == "host" else "drainers")


CONCURRENCY: Final = Kind(
    "a whole number above zero, Adaptive(...), or Shared(...) of a whole number",
    lambda value: (
        isinstance(value, Adaptive) or (value.total % 1 == 0 if isinstance(value, Shared) else WHOLE.fits(value))
    ),
    lambda text: Adaptive() if text == "adaptive" else _shared(text, int),
    metavar="N",
    text_words="a whole number above zero, 'host:N', or 'adaptive'",
)
RATE: Final = Kind(
    "a number above zero, Shared(...)",
    lambda value: isinstance(value, Shared) or NUMBER.fits(value),
    lambda text: _shared(text, float),
    metavar="N",
    text_words="a number above zero, 'host:N'",
).or_none()

CREDENTIALS: Final = (
    Setting("base_url", text("an address", "URL"), "the platform's address", pool=True),
    Setting("token", text("the token", "TOKEN"), "the token; on the command line never a flag", flag=False),
    Setting("token_file", PATH, "a file that holds the token, read again when the token is refused", path="token"),
)
"""Where and who: what no `Settings` hold."""

FILE: Final = (
    Setting("config", PATH, "a TOML file of settings; variables and options take precedence over it"),
    Setting(
        "profile",
        text("a name", "NAME"),
        "use the table `[altcraft.profiles.NAME]` of that file, over its `[altcraft]`",
    ),
)
"""Which file of settings is read, and what of it."""

TABLE: Final = (
    Setting("request_format", choice("json", "xml"), "the format of requests, `json` or `xml`", flag=False),
    Setting(
        "response_format", choice("json", "xml"), "the format of answers that is asked for, `json` or `xml`", flag=False
    ),
    Setting(
        "token_in",
        choice("body", "header"),
        "where the token goes, `body`, or `header` (newer platforms only)",
        flag=False,
    ),
    Setting(
        "request_id_header",
        choice("Request-ID", "X-Request-ID"),
        "`Request-ID`, or `X-Request-ID` for older platforms",
        flag=False,
    ),
    Setting("timeout", SECONDS, "total time for one attempt", path="timeout.total"),
    Setting("connect_timeout", SECONDS, "time to connect, within the timeout", path="timeout.connect"),
    Setting("retry", None, "`RetryPolicy` of a call"),
    Setting("attempts", WHOLE.or_none(), "maximum attempts of a call, the first included", path="retry.attempts"),
    Setting(
        "max_retries",
        RETRIES,
        "maximum retries of a call: one less than its attempts",
        path="retry.attempts",
        stored=lambda retries: retries + 1 if isinstance(retries, int) else retries,
    ),
    Setting("retry_base", SECONDS, "longest wait before the first retry; it doubles with each", path="retry.base"),
    Setting("retry_max_delay", SECONDS, "longest wait between two attempts", path="retry.max_delay"),
    Setting("max_retry_after", SECONDS, "longest `Retry-After` that is obeyed", path="retry.max_retry_after"),
    Setting("fatal_codes", CODES, "codes and HTTP statuses that stop a run", path="retry.rules.fatal"),
    Setting("throttled_codes", CODES, "codes of back-pressure", path="retry.rules.throttled"),
    Setting("unavailable_codes", CODES, "codes of a server that is temporarily down", path="retry.rules.unavailable"),
    Setting("in_progress_codes", CODES, "codes of a call that is still at work", path="retry.rules.in_progress"),
    Setting("retriable_codes", CODES, "other codes after which a call is sent again", path="retry.rules.retriable"),
    Setting("retry_budget", NUMBER.or_none(), "retries that all calls may make between successes", pool=True),
    Setting("retry_refund", NUMBER, "retries that one success returns to the budget", pool=True, flag=False),
    Setting("outage", None, "`OutagePolicy`: how long an outage is waited out"),
    Setting("patience", SECONDS.or_none(), "how long a bulk run waits an outage out", path="outage.patience"),
    Setting(
        "call_patience", SECONDS.or_none(), "how long a single call waits an outage out", path="outage.call_patience"
    ),
    Setting(
        "first_patience",
        SECONDS.or_none(),
        "how long a server that never answered is waited for",
        path="outage.first_patience",
    ),
    Setting("fail_fast", FLAG, "fail at once in an outage", path="outage.fail_fast"),
    Setting(
        "concurrency",
        CONCURRENCY,
        "calls in flight: adaptive (the default), a number, or `host:N`: a total for all processes of this user and "
        "host (`drainers:N`: for all that deliver one outbox on PostgreSQL)",
        pool=True,
    ),
    Setting("rate", RATE, "maximum calls a second; `host:N` and `drainers:N` as with the concurrency", pool=True),
    Setting(
        "group", None, "`host`, or None: whether the limit is shared with the other processes of this host", pool=True
    ),
    Setting(
        "limit_group",
        choice("host", "off"),
        "share the adaptive limit with the other processes of this user and host (`host`, the default), or `off`",
        path="group",
        pool=True,
    ),
    Setting("remember", FLAG, "begin at half of the limit that the last run ended with", pool=True),
    Setting("max_response_bytes", WHOLE, "longer answers are not read", flag=False),
    Setting("dedup_window", SECONDS, "seconds for which the platform remembers a `Request-ID`", flag=False),
    Setting("trust_env", FLAG, "use the proxies that the environment names", pool=True, flag=False),
    Setting("allow_insecure", FLAG, "permit http:// to a host other than this one", pool=True),
    Setting("ca_file", PATH.or_none(), "the authority's certificates (PEM), the only ones to trust", pool=True),
    Setting("client_cert", PATH.or_none(), "the client's own certificate (PEM)", pool=True),
    Setting("client_key", PATH.or_none(), "the key of that certificate, if the certificate's file has none", pool=True),
    Setting("observers", None, "objects with `on_event`, see `altcraft_async.observe`"),
    Setting("session", None, "an aiohttp session to use; it is never closed by the client", pool=True),
    Setting("trace_configs", None, "passed to the aiohttp session", pool=True),
    Setting("tls", None, "True, an `ssl.SSLContext`, or False for no check of certificates", pool=True),
    Setting("transport", None, "another carrier of requests instead of aiohttp", pool=True),
    Setting("wire_log", None, "a file that gets a JSON line for each request, for support", pool=True),
)
"""Every setting, in the order in which people are shown them."""

BY_NAME: Final[Mapping[str, Setting]] = {row.name: row for row in TABLE if row.kind is not None}
"""What an environment, TOML and the command line can set."""

KEYWORDS: Final[Mapping[str, Setting]] = {row.name: row for row in TABLE if row.name in {row.keyword, "max_retries"}}
"""The keywords of the client."""

OF_THE_POOL: Final = frozenset(row.keyword for row in TABLE if row.pool)
"""The keywords in which a copy of a client cannot differ from it."""


OF_PATHS: Final = frozenset(row.name for row in (*CREDENTIALS, *TABLE) if row.kind and row.kind.metavar == PATH.metavar)
"""The settings that are paths of files."""


def variables() -> dict[str, Setting]:
    """Return every environment variable that is read, with its setting."""
    return {row.variable: row for row in (*FILE, *CREDENTIALS, *BY_NAME.values())}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` names of which `name` looks like a slip, or None."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for who mistypes

    found = get_close_matches(name, list(known), 1, _CLOSE)
    return found[0] if found else None


def near_misses(environ: Iterable[str]) -> dict[str, str]:
    """Return the names in `environ` that are read by nobody and look like a variable, each with the one meant.

    Others with the prefix are somebody else's, and left alone.
    """
    known = {name.removeprefix(PREFIX): name for name in variables()}
    found: dict[str, str] = {}
    for name in sorted(environ):
        bare = name.upper().replace("ALTKRAFT", "ALTCRAFT", 1)
        if name in known.values() or not bare.startswith("ALTCRAFT"):
            continue
        meant = nearest(bare.removeprefix("ALTCRAFT").lstrip("_"), known)
        if meant is not None:
            found[name] = known[meant]
    return found

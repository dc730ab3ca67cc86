"""The settings of a client as values: frozen, and checked when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Adaptive
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import RetryPolicy
from altcraft_async.kinds import FLAG, NUMBER, PATH, RETRIES, SECONDS, WHOLE, Kind, choice, only, refusal
from altcraft_async.settings.file import table_of
from altcraft_async.settings.load import all_of, read
from altcraft_async.settings.table import CONCURRENCY, RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from altcraft_async.flow.limit import Shared
    from altcraft_async.protocol.wire import Format, TokenPlace

__all__ = ["Settings", "Timeout", "with_keywords"]

_FORMAT = choice("json", "xml")


@attrs.frozen
class Timeout:
    """The time for one attempt, in seconds: `total` for the whole attempt, `connect` for a connection."""

    total: float = attrs.field(default=30.0, validator=SECONDS)
    connect: float = attrs.field(default=10.0, validator=SECONDS, kw_only=True)


_TIMEOUT = Kind("a number above zero, or a Timeout", lambda value: isinstance(value, Timeout))


def _timeout(value: Any) -> Any:
    return Timeout(total=value) if SECONDS.fits(value) else value


def _group(value: Any) -> Any:
    return "off" if value is None else value


@attrs.frozen(kw_only=True)
class Settings:
    """All settings of a client, without address and token: see `AltcraftClient`.

    `timeout` may be a number of seconds: the total. A value that cannot work raises `ConfigurationError`, which names
    the field.
    """

    request_format: Format = attrs.field(default="json", validator=_FORMAT)
    response_format: Format = attrs.field(default="json", validator=_FORMAT)
    token_in: TokenPlace = attrs.field(default="body", validator=choice("body", "header"))
    request_id_header: str = attrs.field(default="Request-ID", validator=choice("Request-ID", "X-Request-ID"))
    timeout: Timeout = attrs.field(default=Timeout(), validator=_TIMEOUT, converter=_timeout)
    retry: RetryPolicy = attrs.field(default=RetryPolicy(), validator=only(RetryPolicy))
    retry_budget: float | None = attrs.field(default=500.0, validator=NUMBER.or_none())
    retry_refund: float = attrs.field(default=0.5, validator=NUMBER)
    outage: OutagePolicy = attrs.field(default=OutagePolicy(), validator=only(OutagePolicy))
    concurrency: int | Adaptive | Shared = attrs.field(default=Adaptive(), validator=CONCURRENCY)
    rate: float | Shared | None = attrs.field(default=None, validator=RATE)
    group: Literal["host", "off"] = attrs.field(default="host", validator=choice("host", "off"), converter=_group)
    remember: bool = attrs.field(default=True, validator=FLAG)
    max_response_bytes: int = attrs.field(default=10 * 1024 * 1024, validator=WHOLE)
    dedup_window: float = attrs.field(default=86_400.0, validator=SECONDS)
    trust_env: bool = attrs.field(default=False, validator=FLAG)
    allow_insecure: bool = attrs.field(default=False, validator=FLAG)
    ca_file: str | Path | None = attrs.field(default=None, validator=PATH.or_none())
    client_cert: str | Path | None = attrs.field(default=None, validator=PATH.or_none())
    client_key: str | Path | None = attrs.field(default=None, validator=PATH.or_none())

    @classmethod
    def parse(cls, values: Mapping[str, object], *, name: Callable[[str], str] = str) -> Settings:
        """Make settings from plain values, as an environment or a TOML table has them.

        The names are those of `altcraft_async.settings.table`; each setting says how its text is read. Raises one
        `ConfigurationError` for all mistakes, which calls each setting by its `name`.
        """
        settings, problems = read(cls(), values, name=name)
        if problems:
            raise all_of(problems)
        return settings

    @classmethod
    def from_toml(cls, text: str) -> Settings:
        """Read the table ``[altcraft]`` of a TOML document; raises `ConfigurationError`."""
        return cls.parse(table_of(text))


def with_keywords(settings: Settings, keywords: Mapping[str, object]) -> Settings:
    """Return `settings` with the client's `keywords` in the place of what they name.

    A number as ``timeout`` is its total, and ``max_retries=n`` is short for
    ``attempts=n + 1`` of the retry policy. Raises `ConfigurationError` for a value
    that cannot work.
    """
    changes: dict[str, Any] = dict(keywords)
    if SECONDS.fits(changes.get("timeout")):
        changes["timeout"] = attrs.evolve(settings.timeout, total=changes["timeout"])
    if "max_retries" not in changes:
        return attrs.evolve(settings, **changes)
    retries = changes.pop("max_retries")
    if not RETRIES.fits(retries):
        raise refusal(name="max_retries", words=RETRIES.words, value=retries)
    settings = attrs.evolve(settings, **changes)
    attempts, stop = settings.retry.attempts, settings.retry.stop
    if "retry" in changes and (attempts not in {RetryPolicy().attempts, retries + 1} or stop is not None):
        contrary = f"whose attempts are {attempts}" if stop is None else "which has a stop of its own"
        msg = f"max_retries={retries} contradicts retry, {contrary}; give one of the two"
        raise ConfigurationError(msg, field="max_retries")
    return attrs.evolve(settings, retry=attrs.evolve(settings.retry, attempts=retries + 1, stop=None))

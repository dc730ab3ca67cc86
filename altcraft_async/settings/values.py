"""The settings of a client: frozen, checked, readable from an environment or from TOML."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.flow.limit import Adaptive
from altcraft_async.flow.policy import OutagePolicy
from altcraft_async.flow.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from altcraft_async.protocol.wire import Format, TokenPlace

__all__ = ["READERS", "Settings", "Timeout", "check_base_url"]


_LONGEST_SHOWN = 20
"""Characters of a wrong value that a message repeats: a longer one could be the token, put into the wrong place."""


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"a {type(value).__name__} of {len(shown)} characters"


def _positive(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    del instance
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        msg = f"{attribute.name} must be a number above zero, not {_shown(value)}"
        raise ConfigurationError(msg, field=attribute.name)


def _one_of(*allowed: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        del instance
        if value not in allowed:
            msg = f"{attribute.name} must be {' or '.join(map(repr, allowed))}, not {_shown(value)}"
            raise ConfigurationError(msg, field=attribute.name)

    return check


def _concurrency(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    del instance
    if isinstance(value, Adaptive) or (type(value) is int and value >= 1):
        return
    msg = f"{attribute.name} must be an int of at least 1, or Adaptive(...), not {_shown(value)}"
    raise ConfigurationError(msg, field=attribute.name)


@attrs.frozen(kw_only=True)
class Timeout:
    """The time for one attempt, in seconds: `connect` for a connection, `total` for all of it."""

    connect: float = attrs.field(default=10.0, validator=_positive)
    total: float = attrs.field(default=30.0, validator=_positive)


@attrs.frozen(kw_only=True)
class Settings:
    """What a client can be told, apart from where and who: see `AltcraftClient`."""

    request_format: Format = attrs.field(default="json", validator=_one_of("json", "xml"))
    response_format: Format = attrs.field(default="json", validator=_one_of("json", "xml"))
    token_in: TokenPlace = attrs.field(default="body", validator=_one_of("body", "header"))
    request_id_header: str = attrs.field(default="Request-ID", validator=_one_of("Request-ID", "X-Request-ID"))
    timeout: Timeout = attrs.field(default=Timeout(), validator=attrs.validators.instance_of(Timeout))
    retry: RetryPolicy = attrs.field(default=RetryPolicy(), validator=attrs.validators.instance_of(RetryPolicy))
    retry_budget: float | None = 500.0
    retry_refund: float = 0.5
    outage: OutagePolicy = OutagePolicy()
    concurrency: int | Adaptive = attrs.field(default=Adaptive(), validator=_concurrency)
    rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    max_response_bytes: int = attrs.field(default=10 * 1024 * 1024, validator=_positive)
    dedup_window: float = attrs.field(default=86_400.0, validator=_positive)
    trust_env: bool = False
    allow_insecure: bool = False

    @classmethod
    def parse(cls, values: Mapping[str, object], *, name: Callable[[str], str] = str) -> Settings:
        """Make settings of plain values, as an environment or a TOML table gives them.

        Texts are read as what the field needs; ``timeout``, ``connect_timeout``
        and ``attempts`` fill the value objects; ``concurrency`` takes a number or
        ``adaptive``. Raises `ConfigurationError`, calling the field by its `name`.
        """
        read: dict[str, Any] = {}
        for field, value in values.items():
            reader = READERS.get(field)
            if reader is None:
                known = ", ".join(sorted(map(name, READERS)))
                msg = f"{name(field)} is no setting; known are {known}"
                raise ConfigurationError(msg, field=field)
            try:
                result = reader(value)
                cls(**_filled({field: result}))  # alone, so that what cannot work is laid at its door
            except ConfigurationError as error:  # it names the part of a value object, not what was given
                msg = f"{name(field)} must be {error.message.partition(' must be ')[2]}"
                raise ConfigurationError(msg, field=field) from None
            except (ValueError, TypeError, KeyError):
                msg = f"{name(field)} must be {_EXPECTED[field]}, not {_shown(value)}"
                raise ConfigurationError(msg, field=field) from None
            read[field] = result
        return cls(**_filled(read))

    @classmethod
    def from_toml(cls, text: str) -> Settings:
        """Read the table ``[altcraft]`` of a TOML document; raises `ConfigurationError`."""
        import tomllib  # noqa: PLC0415 - few programs read settings from TOML

        try:
            table = tomllib.loads(text).get("altcraft", {})
        except tomllib.TOMLDecodeError as error:
            msg = f"the settings are not TOML: {error}"
            raise ConfigurationError(msg) from None
        if not isinstance(table, dict):
            msg = "[altcraft] must be a table of settings"
            raise ConfigurationError(msg, field="altcraft")
        return cls.parse(table)


def _filled(read: dict[str, Any]) -> dict[str, Any]:
    """Turn plain settings into the arguments of `Settings`, of which some are value objects."""
    filled = dict(read)
    parts = {"total": "timeout", "connect": "connect_timeout"}
    timeout = {part: filled.pop(field) for part, field in parts.items() if field in filled}
    if timeout:
        filled["timeout"] = Timeout(**timeout)
    if "attempts" in filled:
        filled["retry"] = RetryPolicy(attempts=filled.pop("attempts"))
    return filled


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[_text(value).lower()]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def _concurrency_of(value: object) -> int | Adaptive:
    return Adaptive() if value == "adaptive" else _whole(value)


READERS: Final[dict[str, Callable[[object], Any]]] = {
    "request_format": _text,
    "response_format": _text,
    "token_in": _text,
    "request_id_header": _text,
    "timeout": _number,
    "connect_timeout": _number,
    "attempts": _whole,
    "concurrency": _concurrency_of,
    "rate": _number,
    "max_response_bytes": _whole,
    "dedup_window": _number,
    "trust_env": _flag,
    "allow_insecure": _flag,
}
"""The names that an environment or a TOML table may set, and how each is read."""
_KINDS: dict[Callable[[object], Any], str] = {
    _text: "a text",
    _number: "a number",
    _whole: "a whole number",
    _flag: "true or false",
    _concurrency_of: "a whole number or 'adaptive'",
}
_EXPECTED = {field: _KINDS[reader] for field, reader in READERS.items()}


def _is_loopback(host: str) -> bool:
    """Say whether `host` is this machine for sure; a name that only begins like it is somebody else's."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(base_url: str, *, allow_insecure: bool) -> str:
    """Return `base_url` without a trailing slash, or raise `ConfigurationError` saying what is wrong with it."""
    remedy = "give the platform's address, like https://ru.altkraft.com"
    if not isinstance(base_url, str) or not base_url.strip():
        msg = f"base_url is empty; {remedy}, or set ALTCRAFT_BASE_URL"
        raise ConfigurationError(msg, field="base_url")
    try:
        parts = urlsplit(base_url.strip())
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        msg = f"base_url is not an http(s) address; {remedy}"
        raise ConfigurationError(msg, field="base_url")
    if parts.username is not None or parts.password is not None:
        msg = "base_url must not carry a user name or password; leave them out, the token is given apart"
        raise ConfigurationError(msg, field="base_url")
    if parts.scheme == "http" and not _is_loopback(host) and not allow_insecure:
        msg = (
            "base_url is http://, which would send the token in the clear; use https://, or permit it "
            "(allow_insecure=True, ALTCRAFT_ALLOW_INSECURE=true)"
        )
        raise ConfigurationError(msg, field="base_url")
    return base_url.strip().rstrip("/").removesuffix("/api/v1.1")

"""The platform's address: brought into one form, or refused with what to write instead."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from altcraft_async.errors import ConfigurationError

__all__ = ["check_base_url"]

_BARE: Final = re.compile(
    r"(?=[^/]*\.|localhost)[A-Za-z0-9][A-Za-z0-9.-]{0,98}(?::[0-9]{1,5})?(?:/[A-Za-z0-9./_-]{0,99})?"
)
"""A host, perhaps with port and path: what can be shown, because no token looks like it."""

_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+")
_METHOD: Final = re.compile(r"/api(?:/v[0-9.]+)?/+(?:market|subscriptions|profiles|[a-z_]+/[a-z_]+)(?:/.*)?\Z")
_API: Final = "/api/v1.1"


def check_base_url(base_url: str, *, allow_insecure: bool, name: str = "base_url") -> str:
    """Return `base_url` without a trailing slash, or raise `ConfigurationError` saying what is wrong with it.

    The error calls it by its `name`.
    """
    remedy = "give the platform's address, like https://ru.altkraft.com"
    base_url = _bare_text(base_url, name, remedy)
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        if _BARE.fullmatch(base_url):
            raise _wrong(message=f"{name} has no scheme; write https://{base_url}")
        raise _wrong(message=f"{name} is not an http(s) address; {remedy}")
    if not _can_exist(host):
        raise _wrong(
            message=f"{name} has a host that cannot exist: a part of it is empty or longer than 63 characters, a "
            f"character does not belong there, or it is no IP address; {remedy}"
        )
    if parts.username is not None or parts.password is not None:
        raise _wrong(message=f"{name} must not carry a user name or password; leave them out, the token is given apart")
    if parts.scheme == "http" and not _is_loopback(host) and not allow_insecure:
        raise _wrong(
            message=f"{name} is http://, which would send the token in the clear; use https://, or permit it "
            "(allow_insecure=True, ALTCRAFT_ALLOW_INSECURE=true)"
        )
    bare = base_url.rstrip("/").removesuffix(_API)
    method = _METHOD.search(parts.path.rstrip("/"))
    if method is not None:
        raise _wrong(message=f"{name} has a method's path behind the address; leave {method[0][:60]} out")
    return bare


def _bare_text(base_url: str, name: str, remedy: str) -> str:
    """Return a text without the blanks around it; raise `ConfigurationError` for one that has others, or is none."""
    if base_url is not None and not isinstance(base_url, str):
        raise _wrong(message=f"{name} must be text, not {type(base_url).__name__}; {remedy}")
    base_url = (base_url or "").strip()
    if not base_url:
        raise _wrong(message=f"{name} is empty; {remedy}, or set ALTCRAFT_BASE_URL")
    if not base_url.isprintable() or " " in base_url:  # some of them are left out silently where an address is read
        raise _wrong(message=f"{name} has a blank or a control character in it; {remedy}")
    return base_url


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="base_url")


def _can_exist(host: str) -> bool:
    """Say whether `host` is an IP address or may be a name."""
    try:
        ip_address(host)
    except ValueError:
        try:
            encoded = host.encode("idna")  # empty and long parts are errors
        except UnicodeError:
            return False
        numeric = host.rstrip(".").rpartition(".")[2].isdigit()
        return host.isprintable() and not numeric and _HOST.fullmatch(encoded) is not None
    return True


def _is_loopback(host: str) -> bool:
    """Say whether `host` is this machine for sure; a name that only begins like it is somebody else's."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

"""Who may reach the admin API and the page. Pure.

A program of this machine may, and a person at this machine's browser. A page of some other site, open in that
browser, may not: its requests come from loopback too, but they name their origin, or a name that only
their own DNS leads here.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["objection"]

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
_OWN_SITE = frozenset({"same-origin", "none"})


def objection(
    peer: str | None, headers: Mapping[str, str], *, hosts: Collection[str], network: bool, page: bool
) -> str | None:
    """Return why a request is refused, or None where it is let in.

    `peer` is the caller's address, None where it is not known. `hosts` are names besides those of loopback by which the
    sandbox may be addressed. `network` lets any address in. `page` is true for the page itself, which a link may open.
    """
    if not network:
        if not _is_loopback(peer):
            return "only programs of this machine may call the admin API"
        if any(name in headers for name in _FORWARDED):
            return "the request came through a proxy; only programs of this machine may call the admin API"
    host = headers.get("Host", "")
    if not _is_own_name(host, hosts):
        return (
            f"the name {host[:80]!r} is not one of this machine's; use 127.0.0.1, localhost, or name it in admin_hosts"
        )
    origin = headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        return "a page of another site may not call the admin API"
    site = headers.get("Sec-Fetch-Site", "none")
    if site not in _OWN_SITE and not (page and headers.get("Sec-Fetch-Mode") == "navigate"):
        return "a page of another site may not call the admin API"
    return None


def _is_loopback(address: str | None) -> bool:
    if address is None:
        return False
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (found if mapped is None else mapped).is_loopback


def _is_own_name(host: str, others: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (name == "localhost" or _is_loopback(name) or name in others)

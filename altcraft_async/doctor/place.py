"""Where connections go to: the platform's host, or the proxy before it."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import attrs

__all__ = ["Place"]

_DEFAULT_PORTS = {"https": 443, "http": 80}


@attrs.frozen
class Place:
    """The host and port that connections are made to.

    `scheme` is the platform's. `unused_proxy` names the variable of a proxy that the
    environment has and the client is not told to use.
    """

    host: str
    port: int
    scheme: str
    via_proxy: bool = False
    unused_proxy: str | None = None

    @classmethod
    def of(cls, base_url: str, *, trust_env: bool) -> Place:
        """Return the place that a client of `base_url` connects to."""
        from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import, and only the doctor asks

        url = urlsplit(base_url)
        host, scheme = url.hostname or "", url.scheme
        proxy = "" if proxy_bypass(host) else getproxies().get(scheme, "")
        there = urlsplit(proxy)
        if trust_env and there.hostname:
            return cls(there.hostname, there.port or _DEFAULT_PORTS.get(there.scheme, 80), scheme, via_proxy=True)
        unused = f"{scheme.upper()}_PROXY" if proxy else None
        return cls(host, url.port or _DEFAULT_PORTS[scheme], scheme, unused_proxy=unused)

    @property
    def is_address(self) -> bool:
        """Whether the host is an address already."""
        try:
            ip_address(self.host.partition("%")[0])
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine."""
        return self.host == "localhost" or (self.is_address and ip_address(self.host.partition("%")[0]).is_loopback)

    def __str__(self) -> str:
        """Name the host, and say so where it is a proxy."""
        return f"the proxy {self.host}" if self.via_proxy else self.host

    def advise(self, remedy: str) -> str:
        """Add to `remedy` that there is a proxy which is not used."""
        if self.unused_proxy is None:
            return remedy
        return (
            f"{remedy} {self.unused_proxy} is set and not used: if the platform is reached through that proxy only, "
            "set ALTCRAFT_TRUST_ENV=true."
        )

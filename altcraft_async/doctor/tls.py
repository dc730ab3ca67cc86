"""The check of TLS: the handshake, and what the certificate says."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from altcraft_async.doctor.finding import Check, Finding, Level, count, duration
from altcraft_async.protocol.plain import readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async.doctor.place import Place
    from altcraft_async.protocol.values import JSON

__all__ = ["Certificate", "check_tls"]

_DAY = 86_400.0
_SOON = 14
"""Days before its end from which on a certificate is worth a warning."""
_SECOND_LOOK = 3.0
"""Seconds for each handshake that only reads a certificate which is not trusted."""
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the module ssl has no name for."""
_EXPIRED, _NOT_YET, _WRONG_NAME = {10}, {9}, {62, 64}
"""OpenSSL's codes of verification; the others are about who signed."""


@attrs.frozen
class Certificate:
    """Of a server's certificate: its first name, who signed it, and its end as Unix time."""

    name: str
    issuer: str
    expires: float

    @classmethod
    def read(cls, parts: Mapping[str, Any]) -> Certificate:
        """Read what `ssl.SSLSocket.getpeercert` gives."""
        subject, issuer = (
            {key: value for pairs in parts.get(field, ()) for key, value in pairs} for field in ("subject", "issuer")
        )
        names = [value for _, value in parts.get("subjectAltName", ())]
        return cls(
            readable(names[0] if names else subject.get("commonName") or subject.get("organizationName") or "nobody"),
            readable(issuer.get("organizationName") or issuer.get("commonName") or "nobody"),
            ssl.cert_time_to_seconds(parts["notAfter"]),
        )

    def __str__(self) -> str:
        """Say whose it is and by whom."""
        return f"certificate for {self.name} by {self.issuer}"

    @property
    def facts(self) -> dict[str, JSON]:
        """The same by name."""
        return {"name": self.name, "issuer": self.issuer, "expires": self.day}

    @property
    def day(self) -> str:
        """The day of its end."""
        return f"{datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d}"


async def check_tls(  # noqa: PLR0913 - what is known of the connection
    place: Place,
    writer: asyncio.StreamWriter,
    address: str,
    answers: str,
    *,
    within: float,
    tls: ssl.SSLContext | bool = True,
) -> tuple[Finding, float | None]:
    """Shake hands over an open connection to `address`, of which `answers` tells.

    Returns the finding, and the seconds that the handshake took where the
    connection can be used. `tls` is what the client is told.
    """
    context = tls if isinstance(tls, ssl.SSLContext) else _context(verify=tls)
    started = time.perf_counter()
    try:
        secured = await _shake_hands(writer, context, place.host, within)
    except ssl.SSLCertVerificationError as error:
        return _distrusted(place, error, answers, await _certificate_in_spite(address, place, within)), None
    except (OSError, TimeoutError) as error:
        return _no_handshake(place, error, answers, within), None
    elapsed = time.perf_counter() - started
    said = f"{answers}, {secured.version()} ({duration(elapsed)})"
    facts: dict[str, JSON] = {"tls": elapsed, "tls_version": secured.version()}
    parts = secured.getpeercert()
    if not parts:
        said += "; the certificate is not checked"
        remedy = "Without that check, others on the way can read the token: give tls=True or an SSLContext that checks."
        return Finding(check=Check.CONNECTION, level=Level.WARNING, said=said, remedy=remedy, facts=facts), elapsed
    certificate = Certificate.read(parts)
    days = int((certificate.expires - time.time()) // _DAY)
    return Finding(
        check=Check.CONNECTION,
        level=Level.WARNING if days < _SOON else Level.OK,
        said=f"{said}, {certificate}, valid for {count(days, 'more day')}",
        remedy=f"Have the operator renew the certificate before {certificate.day}." if days < _SOON else None,
        facts={**facts, "certificate": {**certificate.facts, "days_left": days}},
    ), elapsed


def _context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _shake_hands(
    writer: asyncio.StreamWriter, context: ssl.SSLContext, host: str, within: float
) -> ssl.SSLObject:
    async with asyncio.timeout(within):
        await writer.start_tls(context, server_hostname=host)
    secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
    return secured


async def _certificate_in_spite(address: str, place: Place, within: float) -> Certificate | None:
    """Read a certificate that is not trusted: the ssl module tells the parts of trusted ones only.

    So it is fetched without a check first, and then trusted as what it is.
    Nothing but handshakes goes over these connections.
    """
    within = min(within, _SECOND_LOOK)
    try:
        secured = await _look(address, place, _context(verify=False), within)
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.load_verify_locations(cadata=secured.getpeercert(binary_form=True) or b"")
        itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        return Certificate.read((await _look(address, place, itself, within)).getpeercert() or {})
    except (OSError, TimeoutError, ValueError, LookupError):
        return None


async def _look(address: str, place: Place, context: ssl.SSLContext, within: float) -> ssl.SSLObject:
    async with asyncio.timeout(within):
        _, writer = await asyncio.open_connection(address, place.port)
    try:
        return await _shake_hands(writer, context, place.host, within)
    finally:
        writer.transport.abort()


def _distrusted(
    place: Place, error: ssl.SSLCertVerificationError, answers: str, certificate: Certificate | None
) -> Finding:
    code = error.verify_code
    if code in _EXPIRED:
        ended = f" on {certificate.day}" if certificate else ""
        why, remedy = f"it ended{ended}", "Have the operator renew it; or this machine's clock is wrong."
    elif code in _NOT_YET:
        why, remedy = "it is not valid yet", "This machine's clock is probably behind; set it."
    elif code in _WRONG_NAME:
        why = f"it is not for {place.host}"
        remedy = "Give the address as the certificate has it; or something else than the platform answers there."
    else:
        why = error.verify_message or "it was signed by nobody whom this machine trusts"
        remedy = (
            "If that is the platform's own authority, trust it: SSL_CERT_FILE=ca.pem, or tls=ssl.create_default_context"
            '(cafile="ca.pem"). If it is nobody you know, something on the way opens the connection: give it no token.'
        )
    said = f"{answers}, but its {certificate or 'certificate'} is not trusted: {why}"
    facts: dict[str, JSON] = {"verify_code": code}
    if certificate:
        facts["certificate"] = certificate.facts
    return Finding(check=Check.CONNECTION, level=Level.FAILED, said=said, remedy=remedy, facts=facts)


def _no_handshake(place: Place, error: OSError | TimeoutError, answers: str, within: float) -> Finding:
    if isinstance(error, TimeoutError):
        why = f"no answer within {duration(within)}"
    elif isinstance(error, ssl.SSLError):
        why = (error.reason or type(error).__name__).lower().replace("_", " ")
    else:
        why = os.strerror(error.errno) if error.errno else "the connection was closed"
    remedy = f"Check that https:// is served on port {place.port}, and that no firewall cuts TLS off."
    if place.is_loopback:
        remedy += " A server on this machine, like the sandbox, may be http://."
    said = f"{answers}, but TLS with it fails: {why}"
    return Finding(check=Check.CONNECTION, level=Level.FAILED, said=said, remedy=remedy)

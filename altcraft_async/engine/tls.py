"""The TLS context of a client that has an authority or a certificate of its own."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from altcraft_async.errors import ConfigurationError
from altcraft_async.kinds import refusal

if TYPE_CHECKING:
    from collections.abc import Collection

    from altcraft_async.settings import Settings

__all__ = ["tls_of"]


def tls_of(settings: Settings, tls: ssl.SSLContext | bool, *, others: Collection[str] = ()) -> ssl.SSLContext | bool:
    """Return what the transport needs: `tls` as it was given, or a context made of the settings' files.

    With `ca_file` only its authorities are trusted. `others` names what else was
    given that brings TLS of its own. Raises `ConfigurationError`, naming setting and
    file, for a file that cannot be used, and for two that contradict each other.
    """
    if not isinstance(tls, bool | ssl.SSLContext):
        raise refusal(name="tls", words="True, False or an ssl.SSLContext", value=tls)
    files = {name: getattr(settings, name) for name in ("ca_file", "client_cert", "client_key")}
    given = [name for name, path in files.items() if path is not None]
    if not given:
        return tls
    rivals = [*(["tls"] if tls is not True else []), *others]
    if rivals:
        msg = f"{given[0]} and {rivals[0]} cannot be given together; put the file into {rivals[0]}, or leave that out"
        raise ConfigurationError(msg, field=given[0])
    if files["client_cert"] is None and files["client_key"] is not None:
        msg = "client_key is given without client_cert; give the certificate that the key is for"
        raise ConfigurationError(msg, field="client_key")
    context = _trusting(files["ca_file"])
    if files["client_cert"] is not None:
        _identify(context, files["client_cert"], files["client_key"])
    return context


def _trusting(ca_file: object) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        reason = _reason(error, "no certificates in PEM form in it")
    msg = f"ca_file {ca_file} cannot be used ({reason}); give the authority's certificates"
    raise ConfigurationError(msg, field="ca_file")


def _identify(context: ssl.SSLContext, certificate: object, key: object) -> None:
    """Load the client's certificate; a key with a password is refused rather than asked for on a terminal."""
    locked = False

    def password() -> str:
        nonlocal locked
        locked = True
        return ""

    try:
        context.load_cert_chain(str(certificate), None if key is None else str(key), password)
    except OSError as error:
        reason = _reason(error, "certificate and key in PEM form are not there, or do not belong together")
    else:
        return
    files = f"client_cert {certificate}" + ("" if key is None else f" with client_key {key}")
    reason = "the key has a password" if locked else reason
    msg = f"{files} cannot be used ({reason}); give a PEM certificate and its key without a password"
    raise ConfigurationError(msg, field="client_cert")


def _reason(error: OSError, unfit: str) -> str:
    return unfit if isinstance(error, ssl.SSLError) or not error.strerror else error.strerror

"""Every error that aiohttp, a timeout or the operating system can raise has its place in our tree."""

from __future__ import annotations

import errno
import pickle
import ssl

import aiohttp
import pytest
from aiohttp import http_exceptions

from altcraft_async.engine.connections import UnaskedBytesError
from altcraft_async.engine.mapping import map_cut_off, map_error, map_unsent
from altcraft_async.errors import (
    AltcraftError,
    AttemptTimeoutError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    UnreadableResponseError,
)

EXPECTED = {
    "ClientConnectionError": ConnectionLostError,
    "ClientConnectionResetError": ConnectionLostError,
    "ClientConnectorCertificateError": ConnectError,
    "ClientConnectorDNSError": ConnectError,
    "ClientConnectorError": ConnectError,
    "ClientConnectorSSLError": ConnectError,
    "ClientError": ConnectionLostError,
    "ClientHttpProxyError": ConnectError,
    "ClientOSError": ConnectionLostError,
    "ClientPayloadError": UnreadableResponseError,
    "ClientProxyConnectionError": ConnectError,
    "ClientResponseError": UnreadableResponseError,
    "ClientSSLError": ConnectError,
    "ConnectionTimeoutError": ConnectError,
    "ContentTypeError": UnreadableResponseError,
    "InvalidURL": ConfigurationError,
    "InvalidUrlClientError": ConfigurationError,
    "InvalidUrlRedirectClientError": ConfigurationError,
    "NonHttpUrlClientError": ConfigurationError,
    "NonHttpUrlRedirectClientError": ConfigurationError,
    "RedirectClientError": ConfigurationError,
    "ServerConnectionError": ConnectionLostError,
    "ServerDisconnectedError": ConnectionLostError,
    "ServerFingerprintMismatch": ConnectError,
    "ServerTimeoutError": AttemptTimeoutError,
    "SocketTimeoutError": AttemptTimeoutError,
    "TooManyRedirects": ConfigurationError,
    "UnixClientConnectorError": ConnectError,
    "UploadAbortedError": ConnectionLostError,
    "WSServerHandshakeError": UnreadableResponseError,
}
"""By name, because some of them came with later versions of aiohttp."""

NEVER_SENT = (ConnectError, ConfigurationError)


def family(kind: type[Exception]) -> list[type[Exception]]:
    found = {kind}
    for child in kind.__subclasses__():
        found.update(family(child))
    return sorted(found, key=lambda member: member.__name__)


def made(kind: type[Exception]) -> Exception:
    """Make an error without its constructor, which differs from class to class."""
    error = kind.__new__(kind)
    if isinstance(error, aiohttp.ClientResponseError):
        error.status = 502
    return error


def key_of(host: str, *, tls: bool) -> aiohttp.client_reqrep.ConnectionKey:
    return aiohttp.client_reqrep.ConnectionKey(
        host, 1, is_ssl=tls, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
    )


@pytest.mark.parametrize("kind", [k for k in family(aiohttp.ClientError) if k.__module__.startswith("aiohttp")])
def test_every_client_error_of_aiohttp_is_mapped(kind):
    assert kind.__name__ in EXPECTED, f"aiohttp has a new error, {kind.__name__}: decide where it belongs"
    assert type(map_error(made(kind))) is EXPECTED[kind.__name__]


@pytest.mark.parametrize("kind", family(http_exceptions.HttpProcessingError))
def test_every_error_of_aiohttps_parser_is_an_unreadable_answer(kind):
    assert type(map_error(made(kind))) is UnreadableResponseError


def test_a_timeout_is_an_attempt_timeout():
    assert type(map_error(TimeoutError())) is AttemptTimeoutError


@pytest.mark.parametrize("kind", [k for k in family(OSError) if k.__module__ == "builtins"])
def test_every_error_of_the_operating_system_is_mapped(kind):
    expected = AttemptTimeoutError if issubclass(kind, TimeoutError) else ConnectionLostError
    assert type(map_error(kind(errno.EIO, "text"))) is expected


@pytest.mark.parametrize("kind", [k for k in family(aiohttp.ClientError) if k.__name__ in EXPECTED])
def test_what_may_have_been_sent_says_so(kind):
    mapped = map_error(made(kind))
    assert getattr(mapped, "maybe_applied", False) is not isinstance(mapped, NEVER_SENT)


def test_the_message_names_the_reason_of_the_system_not_the_addresses_of_the_request():
    key = key_of("secret-host", tls=False)
    error = aiohttp.ClientConnectorError(key, OSError(errno.ECONNREFUSED, "Connect call failed ('10.1.2.3', 1)"))
    assert str(map_error(error)) == "no connection to the server (Connection refused)"


def test_a_connection_that_takes_too_long_is_told_in_words():
    assert str(map_error(aiohttp.ConnectionTimeoutError())) == "no connection to the server (not in time)"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"reason": "WRONG_VERSION_NUMBER"}, "TLS: wrong version number"),
        ({"verify_message": "self-signed certificate"}, "TLS: self-signed certificate"),
    ],
)
def test_a_tls_failure_is_named_as_one(attributes, said):
    inner = ssl.SSLCertVerificationError(1, "text")
    for name, value in attributes.items():
        setattr(inner, name, value)
    key = key_of("h", tls=True)
    assert said in str(map_error(aiohttp.ClientConnectorSSLError(key, inner)))


@pytest.mark.parametrize("kind", [k for k in family(aiohttp.ClientError) if k.__name__ in EXPECTED])
def test_nothing_of_the_original_is_kept(kind):
    error = made(kind)
    error.args = ("canary",)
    mapped = map_error(error)
    assert isinstance(mapped, AltcraftError)
    assert mapped.__cause__ is mapped.__context__ is None
    assert "canary" not in repr(vars(mapped)) + str(mapped)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_where_this_machine_is_the_reason_a_connect_error_says_so(number):
    error = aiohttp.ClientConnectorError(key_of("h", tls=False), OSError(number, "text"))
    assert map_error(error).local
    assert map_unsent(OSError(number, "text"), in_doubt=False).local
    assert pickle.loads(pickle.dumps(map_error(error))).local


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_where_the_server_is_the_reason_it_does_not(number):
    error = aiohttp.ClientConnectorError(key_of("h", tls=False), OSError(number, "text"))
    assert not map_error(error).local


@pytest.mark.parametrize("kind", [k for k in family(aiohttp.ClientError) if k.__name__ in EXPECTED])
def test_without_a_connection_nothing_was_sent_unless_it_went_out_before(kind):
    first, again = (map_unsent(made(kind), in_doubt=in_doubt) for in_doubt in (False, True))
    assert type(first) is ConnectError
    assert not first.maybe_applied
    assert type(again) is ConnectionLostError
    assert again.maybe_applied


def test_a_connection_that_spoke_first_was_sent_nothing():
    assert not map_error(UnaskedBytesError()).maybe_applied
    assert not map_unsent(UnaskedBytesError(), in_doubt=False).maybe_applied
    assert map_unsent(UnaskedBytesError(), in_doubt=True).maybe_applied


def test_the_words_do_not_depend_on_whether_the_end_of_a_connection_came_before_the_request():
    early, late = map_error(UnaskedBytesError()), map_error(aiohttp.ServerDisconnectedError())
    assert str(early) == "the connection broke (it spoke or ended before the request was written)"
    assert str(late) == "the connection broke (ServerDisconnectedError); the change may have been applied"


@pytest.mark.parametrize("error", [ConnectionLostError("x"), UnreadableResponseError("x")])
def test_what_ends_the_reading_of_a_body_keeps_what_the_head_said(error):
    mapped = map_cut_off(error, 503, {"Retry-After": "7"})
    assert type(mapped) is UnreadableResponseError
    assert (mapped.status, mapped.retry_after, mapped.maybe_applied) == (503, "7", True)
    assert vars(pickle.loads(pickle.dumps(mapped))) == vars(mapped)


def test_a_timeout_while_a_body_is_read_stays_one():
    assert type(map_cut_off(AttemptTimeoutError("x"), 200, {})) is AttemptTimeoutError

"""A private authority and a client's own certificate, given as files."""

from __future__ import annotations

import ssl

import pytest
import trustme

from altcraft_async import AltcraftClient, ConfigurationError, ConnectError, RetryPolicy

LINE = ("order_1", "line_1_1", "delivered")
OK = b'{"error": 0, "data": {}}'
URL, TOKEN = "https://x.test", "t"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Paths of the authority's certificate, and of a client's certificate and key."""
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca_file", "client_cert", "client_key")}
    mine = authority.issue_cert("client.test")
    authority.cert_pem.write_to_path(str(paths["ca_file"]))
    mine.cert_chain_pems[0].write_to_path(str(paths["client_cert"]))
    mine.private_key_pem.write_to_path(str(paths["client_key"]))
    return paths


@pytest.fixture
async def server(authority, start_raw_server):
    """A server with a certificate of the authority, which asks for one of the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return await start_raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK, tls=context)


async def test_an_authority_of_ones_own_is_trusted_when_it_is_given(server, files, connect):
    with pytest.raises(ConnectError):
        await connect(server, retry=RetryPolicy(attempts=1)).call("market/x")
    await connect(server, ca_file=files["ca_file"]).call("market/x")


async def test_the_files_can_be_named_by_the_environment(server, files):
    environ = {f"ALTCRAFT_{name.upper()}": str(path) for name, path in files.items()}
    environ |= {"ALTCRAFT_BASE_URL": server.base_url, "ALTCRAFT_TOKEN": TOKEN}
    async with AltcraftClient.from_env(environ) as client:
        await client.call("market/x")


async def test_a_client_that_is_asked_for_a_certificate_shows_its_own(authority, start_raw_server, files, connect):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK
    strict = await start_raw_server(answer, tls=context)
    await connect(strict, **files).call("market/x")


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"ca_file": "/no/such.pem"}, "ca_file", "ca_file /no/such.pem cannot be used (No such file or directory)"),
        ({"ca_file": __file__}, "ca_file", "(no certificates in PEM form in it)"),
        ({"client_cert": "/no/such.pem"}, "client_cert", "client_cert /no/such.pem cannot be used (No such file"),
        ({"client_cert": __file__}, "client_cert", "PEM form are not there"),
        ({"client_key": "k.pem"}, "client_key", "client_key is given without client_cert"),
        ({"ca_file": __file__, "tls": False}, "ca_file", "ca_file and tls cannot be given together"),
        ({"ca_file": __file__, "transport": object()}, "ca_file", "ca_file and transport cannot be given together"),
        ({"tls": "yes"}, "tls", "tls must be True, False or an ssl.SSLContext, not 'yes'"),
    ],
)
def test_a_file_that_cannot_work_is_named(given, field, said):
    with pytest.raises(ConfigurationError) as caught:
        AltcraftClient(URL, TOKEN, **given)
    assert said in str(caught.value)
    assert caught.value.field == field


def test_a_key_with_a_password_is_refused_and_not_asked_for(files, authority):
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - trustme brings it

    key = serialization.load_pem_private_key(files["client_key"].read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    files["client_key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, traditional, locked))
    with pytest.raises(ConfigurationError, match="the key has a password"):
        AltcraftClient(URL, TOKEN, client_cert=files["client_cert"], client_key=files["client_key"])

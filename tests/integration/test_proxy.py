"""Proxies of the environment are used where that is asked for, and ``.netrc`` never."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl

import pytest
import trustme

from altcraft_async import AltcraftClient, ConfigurationError, ConnectError, RetryPolicy

_ANSWER = b'{"data": {}, "error": 0, "error_text": "Successful operation"}'
_LINE = ("order_1", "line_1", "new")


class Proxy:
    """A proxy that answers for the platform, and carries tunnels to `port`."""

    def __init__(self, port=None):
        self.port, self.heads, self.tasks = port, [], set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _talk(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            if head.startswith("CONNECT"):
                await self._tunnel(reader, writer)
            else:
                await self._answer(head, reader, writer)
        writer.close()

    async def _answer(self, head, reader, writer):
        fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:-2])
        await reader.readexactly(int(fields["content-length"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(_ANSWER), _ANSWER))
        await writer.drain()

    async def _tunnel(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def carry(source, target):
            while data := await source.read(65536):
                target.write(data)
            target.close()

        try:
            await asyncio.gather(carry(reader, back), carry(there, writer))
        finally:
            back.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No proxies, and a ``.netrc`` with credentials for every host."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / ".netrc").write_text("default login canary password canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
async def test_a_proxy_of_the_environment_is_used_when_asked(monkeypatch, name):
    async with Proxy() as proxy:
        monkeypatch.setenv(name, f"http://{proxy.address}")
        async with AltcraftClient("http://altcraft.test", token="t", trust_env=True, allow_insecure=True) as client:
            line = await client.market.orders.update_order_line_status(*_LINE)
    assert line.status_external_id == "new"
    [head] = proxy.heads
    assert head.startswith("POST http://altcraft.test/api/v1.1/market/orders/update_order_line_status HTTP/1.1\r\n")


async def test_a_proxys_own_credentials_are_used_and_those_of_netrc_are_not(monkeypatch):
    async with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:se%20cret@{proxy.address}")
        async with AltcraftClient("http://altcraft.test", token="t", trust_env=True, allow_insecure=True) as client:
            await client.market.orders.update_order_line_status(*_LINE)
    [head] = proxy.heads
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:se cret').decode()}\r\n" in head
    assert "\r\nAuthorization" not in head


@pytest.mark.parametrize("place", ["body", "header"])
@pytest.mark.parametrize("through_proxy", [True, False])
async def test_netrc_is_never_read(start_raw_server, monkeypatch, place, through_proxy):
    server = await start_raw_server(None)
    server.answers = [server.answer(_ANSWER)]
    async with Proxy() as proxy:
        if through_proxy:
            monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        url = "http://altcraft.test" if through_proxy else server.base_url
        async with AltcraftClient(url, token="tok", token_in=place, trust_env=True, allow_insecure=True) as client:
            await client.market.orders.update_order_line_status(*_LINE)
    head = (proxy.heads or [server.requests[0].head])[0].lower()
    assert "basic" not in head
    assert ("\r\nauthorization: bearer tok\r\n" in head) is (place == "header")


async def test_a_tunnel_through_a_proxy_is_kept(start_raw_server, monkeypatch):
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.2").configure_cert(theirs)
    authority.configure_trust(ours)
    server = await start_raw_server(None, keep_alive=True, tls=theirs)
    server.answers = [server.answer(_ANSWER)]
    port = int(server.base_url.rpartition(":")[2])
    async with Proxy(port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:secret@{proxy.address}")
        async with AltcraftClient(f"https://127.0.0.2:{port}", token="t", tls=ours, trust_env=True) as client:
            for _ in range(3):
                await client.market.orders.update_order_line_status(*_LINE)
        assert len(server.requests) == 3
        assert not any("Proxy" in request.head for request in server.requests)
        [head] = proxy.heads
        assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:secret').decode()}\r\n" in head


async def test_no_proxy_is_obeyed(start_raw_server, monkeypatch):
    server = await start_raw_server(None)
    server.answers = [server.answer(_ANSWER)]
    async with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with AltcraftClient(server.base_url, token="t", trust_env=True) as client:
            await client.market.orders.update_order_line_status(*_LINE)
    assert len(server.requests) == 1
    assert not proxy.heads


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://me:canary@127.0.0.1:1", "me:canary@127.0.0.1:99999", "http://[::1", "http://proxy.test:canary",
        "http://:3128", "http://canary x:3128",
    ],
)  # fmt: skip
async def test_a_proxy_that_is_none_of_http_is_a_configuration_error(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    async with AltcraftClient("http://127.0.0.1:1", token="t", trust_env=True) as client:
        with pytest.raises(ConfigurationError) as caught:
            await client.market.orders.update_order_line_status(*_LINE)
    assert "HTTP_PROXY" in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "no_proxy", "named"),
    [("HTTP_PROXY", "", True), ("http_proxy", "", True), ("HTTPS_PROXY", "", False), ("HTTP_PROXY", "*", False)],
)
async def test_a_proxy_that_is_set_and_not_used_is_named_where_no_connection_is_made(
    monkeypatch, closed_port, name, no_proxy, named
):
    monkeypatch.setenv(name, "http://me:canary@proxy.test:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    async with AltcraftClient(closed_port, token="t", retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(ConnectError) as caught:
            await client.market.orders.update_order_line_status(*_LINE)
    said = f"{name} is set and not used; trust_env=True (ALTCRAFT_TRUST_ENV=true) uses it"
    assert (said in str(caught.value)) is named
    assert "canary" not in str(caught.value)
    assert "proxy.test" not in str(caught.value)

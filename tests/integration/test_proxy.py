from __future__ import annotations

import asyncio

from altcraft_async import AltcraftClient

_ANSWER = b'{"data": {}, "error": 0, "error_text": "Successful operation"}'


async def test_a_proxy_of_the_environment_is_used_when_asked(monkeypatch):
    asked: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.split("\r\n", 1)[0])
        head_lines = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:-2])
        await reader.readexactly(int(head_lines["content-length"]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(_ANSWER), _ANSWER))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with AltcraftClient("http://altcraft.test", token="t", trust_env=True, allow_insecure=True) as client:
            line = await client.market.orders.update_order_line_status("order_1", "line_1", "new")
    assert line.status_external_id == "new"
    assert asked == ["POST http://altcraft.test/api/v1.1/market/orders/update_order_line_status HTTP/1.1"]

"""The wire log tells support how each request went, and nothing that is secret."""

from __future__ import annotations

import json
import stat

import pytest

from altcraft_async import AltcraftClient, ConfigurationError, ConnectError, RetryPolicy

YES = b'{"error":0,"error_text":"Successful operation"}'
TOKEN = "s3cret-canary-token"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_request_is_one_line(start_raw_server, connect, tmp_path):
    path = tmp_path / "wire.jsonl"
    server = await start_raw_server(None)
    server.answers = [
        server.answer(b"<html></html>", status=503, content_type="text/html", Retry_After="0", Set_Cookie="a=b"),
        server.answer(YES, Server="nginx"),
    ]
    client = connect(server, wire_log=path)
    await client.market.orders.update_order_line_status("order_1", "line_1", "new", request_id="id-1")
    first, second = lines(path)
    assert (first["status"], first["body"], first["headers"]["retry-after"]) == (503, "html", "0")
    assert (second["status"], second["body"], second["headers"]["server"]) == (200, "json", "nginx")
    assert second["path"] == "market/orders/update_order_line_status"
    assert (second["request_id"], second["error"], second["fresh"]) == ("id-1", None, False)
    assert second["received"] == len(YES)
    assert second["sent"] == len(server.requests[1].body)
    assert 0 < second["seconds"] < 5
    assert "set-cookie" not in first["headers"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("place", ["body", "header"])
async def test_neither_token_nor_bodies_are_in_it(start_raw_server, connect, tmp_path, place):
    path = tmp_path / "wire.jsonl"
    server = await start_raw_server(None)
    echo = f'{{"error": 400, "error_text": "body-canary {TOKEN}"}}'.encode()
    there = f"https://x.test/login/{TOKEN}?token={TOKEN}"
    server.answers = [server.answer(echo, status=302, Location=there, Server=f"gate {TOKEN}", Via=TOKEN)]
    client = connect(server, token=TOKEN, token_in=place, wire_log=path, retry=RetryPolicy(attempts=1))
    report = await client.market.orders.update_order_line_statuses([("order-canary", "line-canary", "new")])
    assert not report.ok
    text = path.read_text()
    assert "https://x.test/login/" in text
    assert TOKEN not in text
    assert "canary" not in text


async def test_a_call_without_an_answer_has_its_error(closed_port, connect, tmp_path):
    path = tmp_path / "wire.jsonl"
    client = connect(closed_port, wire_log=path, retry=RetryPolicy(attempts=1))
    with pytest.raises(ConnectError):
        await client.market.orders.update_order_line_status("order_1", "line_1", "new")
    [line] = lines(path)
    assert (line["error"], line["status"], line["headers"], line["body"]) == ("ConnectError", None, {}, None)


async def test_it_is_added_to_what_is_there(start_raw_server, connect, tmp_path):
    path = tmp_path / "wire.jsonl"
    path.write_text("{}\n")
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    await connect(server, wire_log=path).market.orders.update_order_line_status("order_1", "line_1", "new")
    assert len(lines(path)) == 2


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be opened") as caught:
        AltcraftClient("http://127.0.0.1:1", "t", wire_log=tmp_path / "no" / "wire.jsonl")
    assert caught.value.field == "wire_log"


async def test_a_full_disk_ends_the_log_and_not_the_calls(start_raw_server, connect, caplog):
    server = await start_raw_server(None)
    server.answers = [server.answer(YES)]
    client = connect(server, wire_log="/dev/full")
    for _ in range(2):
        await client.market.orders.update_order_line_status("order_1", "line_1", "new")
    [record] = caplog.records
    assert "/dev/full" in record.getMessage()

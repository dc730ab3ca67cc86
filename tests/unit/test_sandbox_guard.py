"""The admin API lets in programs of this machine, and no page of another site."""

from __future__ import annotations

import pytest

from altcraft_async.sandbox.guard import objection

HOST = {"Host": "127.0.0.1:8080"}


def refused(headers, peer="127.0.0.1", hosts=(), *, network=False, page=False):
    return objection(peer, headers, hosts=hosts, network=network, page=page) is not None


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.2"])
def test_a_program_of_this_machine_is_let_in(peer, host):
    assert not refused({"Host": host}, peer)


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.168.1.7", "::ffff:10.0.0.1", "fe80::1%eth0", "0.0.0.0", None, "x"])
def test_another_machine_is_not(peer):
    assert refused(HOST, peer)
    assert peer is None or not refused(HOST, peer, network=True)


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
def test_what_came_through_a_proxy_is_not(name):
    assert refused({**HOST, name: "10.0.0.1"})


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "[::", "a@b"],
)
def test_a_name_that_only_foreign_dns_leads_here_is_not(host):
    assert refused({"Host": host})
    assert refused({"Host": host}, network=True)


def test_a_name_that_was_configured_is_let_in():
    assert not refused({"Host": "sandbox:8080"}, "172.17.0.3", {"sandbox"}, network=True)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080"])
def test_the_page_itself_is_let_in(origin):
    assert not refused({**HOST, "Origin": origin, "Sec-Fetch-Site": "same-origin"})


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.example", "http://127.0.0.1:3000", "http://localhost:8080", "https://127.0.0.1:8080"],
)
def test_a_page_of_another_origin_is_not(origin):
    assert refused({**HOST, "Origin": origin})


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_another_site_began_is_not(site):
    assert refused({**HOST, "Sec-Fetch-Site": site})
    assert refused({**HOST, "Sec-Fetch-Site": site}, page=True)


def test_a_link_on_another_site_may_open_the_page():
    headers = {**HOST, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert not refused(headers, page=True)
    assert refused(headers, page=False)

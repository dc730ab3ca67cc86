"""The doctor: each trouble is found where it is, told in plain words, and nothing else is blamed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

import aiohttp
import pytest
import trustme

from altcraft_async import AuthenticationError, ConfigurationError, PermissionDeniedError
from altcraft_async.doctor import Check, Finding, Level, diagnose
from altcraft_async.engine.group import group_name
from altcraft_async.flow.share import Report
from altcraft_async.protocol.wire import WireResponse
from altcraft_async.sandbox import Fault, Faults
from altcraft_async.storage.slots import SlotFile

TOKEN = "canary-0b8a4f6d2c1e"
NO_ORDER = b'{"error": 400, "error_text": "no such order"}'
MADE = [check for check in Check if check is not Check.OUTBOX]
OK, WARNING, FAILED, SKIPPED = Level


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def examined(server, *, within: float = 2.0, calls: int = 3, options=None, **variables) -> dict[Check, Finding]:
    """Diagnose a server and give the last finding of each check; the token is nowhere in them."""
    environ = {"ALTCRAFT_BASE_URL": getattr(server, "base_url", server), "ALTCRAFT_TOKEN": TOKEN} | variables
    findings = [finding async for finding in diagnose(environ, within=within, calls=calls, **(options or {}))]
    assert TOKEN not in repr(findings)
    assert list(dict.fromkeys(finding.check for finding in findings)) == MADE
    for finding in findings:
        assert (finding.remedy is None) is (finding.level in {OK, SKIPPED}), finding
    return {finding.check: finding for finding in findings}


@pytest.fixture
def answering(start_raw_server):
    """Start servers that give the same answer to every call, and keep connections."""

    async def start(body: bytes = NO_ORDER, *, tls: ssl.SSLContext | None = None, **head):
        server = await start_raw_server(None, keep_alive=True, tls=tls)
        server.answers = [server.answer(body, **head)]
        return server

    return start


def levels(findings: dict[Check, Finding]) -> list[Level]:
    return [findings[check].level for check in MADE]


# -- all is well


async def test_a_healthy_platform_passes_every_check(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN)
    findings = await examined(sandbox)
    assert levels(findings) == [OK] * 7
    assert (
        f"{sandbox.base_url}, token: set, {len(TOKEN)} characters, from ALTCRAFT_TOKEN" in findings[Check.SETTINGS].said
    )
    assert "accepted, as far as can be told" in findings[Check.TOKEN].said
    assert findings[Check.ROUND_TRIPS].facts["calls"] == 3


async def test_nothing_is_changed_and_every_call_only_reads(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN)
    await examined(sandbox)
    assert sandbox.ledger.lines == ()
    assert set(sandbox.ledger.answers) == {"refused 400", "replayed"}


async def test_both_styles_of_refusing_are_understood(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, error_style="http4xx")
    assert levels(await examined(sandbox)) == [OK] * 7


async def test_the_environment_of_the_process_is_the_default(start_sandbox, monkeypatch):
    sandbox = await start_sandbox(token=TOKEN)
    monkeypatch.setenv("ALTCRAFT_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("ALTCRAFT_TOKEN", TOKEN)
    assert [finding.level async for finding in diagnose(calls=1)] == [OK] * 7


# -- settings


async def findings_of_settings(**environ: str) -> list[Finding]:
    environ = {"ALTCRAFT_BASE_URL": "http://127.0.0.1:1", "ALTCRAFT_TOKEN": TOKEN} | environ
    return [finding async for finding in diagnose(environ, within=0.5) if finding.check is Check.SETTINGS]


@pytest.mark.skipif(sys.platform == "win32", reason="groups need fcntl")
@pytest.mark.parametrize(("variables", "total"), [({}, "1 10 256 1.25"), ({"ALTCRAFT_RATE": "host:100"}, "1 100.0")])
async def test_it_tells_how_many_other_processes_share_the_limit(
    start_sandbox, tmp_path, monkeypatch, variables, total
):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("ALTCRAFT_LIMIT_GROUP")
    sandbox = await start_sandbox(token=TOKEN)
    name = group_name(sandbox.base_url, TOKEN, total)
    held = SlotFile.claim(tmp_path / "altcraft_async", name)
    held.tell(time.monotonic(), Report(1, 1, hungry=True), {})
    findings = await examined(sandbox, **variables)
    assert findings[Check.SETTINGS].facts["others_sharing"] == 0  # it is this process itself

    monkeypatch.setattr("os.getpid", lambda: 1)
    findings = await examined(sandbox, **variables)
    held.close()
    assert findings[Check.SETTINGS].notes[1:] == (
        "shares a limit with 1 other process of this host with the same settings",
    )


async def test_a_fixed_limit_is_shared_with_nobody(sandbox):
    findings = await examined(sandbox, ALTCRAFT_CONCURRENCY="4")
    assert findings[Check.SETTINGS].facts["others_sharing"] is None


@pytest.mark.parametrize(
    ("variable", "value", "said", "remedy"),
    [
        ("ALTCRAFT_TIMEOUT", "-1", "ALTCRAFT_TIMEOUT must be a number above zero", "Correct it"),
        ("ALTCRAFT_ATTEMPTS", "0", "ALTCRAFT_ATTEMPTS must be a whole number above zero", "Correct it"),
        (
            "ALTCRAFT_CONCURRENCY",
            "lots",
            "ALTCRAFT_CONCURRENCY must be a whole number above zero, 'host:N', or 'adaptive'",
            "Correct it",
        ),
        ("ALTCRAFT_TOKEN_IN", "url", "ALTCRAFT_TOKEN_IN must be 'body' or 'header'", "Correct it"),
        ("ALTCRAFT_TOKEN", "", "ALTCRAFT_TOKEN is not set", "ALTCRAFT_TOKEN_FILE"),
        ("ALTCRAFT_TOKEN", "two words", "ALTCRAFT_TOKEN has a blank", "copied"),
        ("ALTCRAFT_BASE_URL", "", "ALTCRAFT_BASE_URL is not set", "https://ru.altkraft.com"),
        ("ALTCRAFT_CA_FILE", "/no/such.pem", "ca_file /no/such.pem cannot be used", "Give the authority"),
        ("ALTCRAFT_MAX_RETRIES", "x", "ALTCRAFT_MAX_RETRIES must be a whole number", "Correct it"),
        ("ALTCRAFT_BASE_URL", "http://x.test", "ALTCRAFT_BASE_URL is http://", "Use https://"),
    ],
)
async def test_a_variable_that_cannot_work_is_named_with_what_to_do(variable, value, said, remedy):
    (finding,) = await findings_of_settings(**{variable: value})
    assert finding.level is FAILED
    assert said in finding.said
    assert remedy in (finding.remedy or "") + finding.said
    assert isinstance(finding.error, ConfigurationError)


async def test_all_wrong_variables_are_told_at_once():
    found = await findings_of_settings(ALTCRAFT_RATE="fast", ALTCRAFT_TIMEOUT="slow", ALTCRAFT_TOKEN="")
    assert [finding.said.split()[0] for finding in found] == [
        "ALTCRAFT_TIMEOUT", "ALTCRAFT_RATE", "ALTCRAFT_TOKEN",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ALTKRAFT_TOKEN", "altcraft_token", "ALTCRAFTTOKEN", "ALTCRAFT_TIMEUOT", "ALTCRAFTX"])
async def test_a_variable_that_is_passed_over_for_its_name_is_told_of(name):
    found = await findings_of_settings(**{name: "x"})
    assert [(finding.level, finding.said.split()[0]) for finding in found] == [
        (WARNING, name),
        (OK, "http://127.0.0.1:1,"),
    ]


async def test_a_slip_of_the_pen_is_named_with_the_right_variable_and_a_foreign_one_is_left_alone():
    found = await findings_of_settings(ALTCRAFT_TIMEUOT="3", ALTCRAFT_PROJECT="shop")
    assert [finding.remedy for finding in found] == ["Did you mean ALTCRAFT_TIMEOUT?", None]


async def test_a_token_put_into_the_wrong_variable_is_not_shown():
    found = await findings_of_settings(ALTCRAFT_TOKEN_IN=TOKEN, ALTCRAFT_RATE=TOKEN, ALTCRAFT_CONCURRENCY=TOKEN)
    assert len(found) == 3
    assert TOKEN not in repr(found)


async def test_a_token_from_a_file_is_measured_and_not_shown(tmp_path):
    file = tmp_path / "token.txt"
    file.write_text(TOKEN + "\n")
    (finding,) = await findings_of_settings(ALTCRAFT_TOKEN="", ALTCRAFT_TOKEN_FILE=str(file))
    assert f"token: set, {len(TOKEN)} characters, from ALTCRAFT_TOKEN_FILE" in finding.said
    file.write_text("\n")
    (finding,) = await findings_of_settings(ALTCRAFT_TOKEN="", ALTCRAFT_TOKEN_FILE=str(file))
    assert "token.txt is empty" in finding.said


@pytest.mark.parametrize(
    ("environ", "remedy"),
    [({"ALTCRAFT_TOKEN": '"quoted"'}, "quotes"), ({"ALTCRAFT_TOKEN_FILE": "/tmp/x"}, "the first counts")],
)
async def test_a_doubtful_token_is_a_warning(environ, remedy):
    (finding,) = await findings_of_settings(**environ)
    assert finding.level is WARNING
    assert remedy in finding.remedy


async def test_what_differs_from_the_defaults_is_told_too():
    (finding,) = await findings_of_settings(ALTCRAFT_FATAL_CODES="401,500-502", ALTCRAFT_FAIL_FAST="1")
    assert "fatal_codes 401,500-502, patience 1800, fail_fast yes" in finding.notes[0]


async def test_the_effective_settings_are_listed():
    (finding,) = await findings_of_settings(ALTCRAFT_TIMEOUT="7", ALTCRAFT_CONCURRENCY="3")
    assert finding.facts["settings"] | {"timeout": 7.0, "concurrency": 3, "attempts": 5} == finding.facts["settings"]
    assert "timeout 7, connect_timeout 10, attempts 5, patience 1800, concurrency 3, rate none" in finding.notes[0]


async def test_the_checks_go_on_as_far_as_they_can(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN)
    without_token = await examined(sandbox, ALTCRAFT_TOKEN="")
    assert levels(without_token) == [FAILED, OK, OK, SKIPPED, SKIPPED, SKIPPED, SKIPPED]
    assert levels(await examined(sandbox, ALTCRAFT_RATE="fast")) == [FAILED, OK, OK, OK, OK, OK, OK]
    assert levels(await examined("nonsense")) == [FAILED, *[SKIPPED] * 6]


async def test_a_keyword_that_cannot_work_is_told_like_a_variable():
    findings = await examined("http://127.0.0.1:1", options={"concurrency": 0})
    assert findings[Check.SETTINGS].level is FAILED
    assert "concurrency must be" in findings[Check.SETTINGS].said


# -- name and connection


async def test_a_name_without_an_address_is_told_and_nothing_is_tried():
    findings = await examined("https://name.invalid")
    assert levels(findings) == [OK, FAILED, *[SKIPPED] * 5]
    assert "name.invalid has no address" in findings[Check.NAME].said
    assert "spelling" in findings[Check.NAME].remedy


async def test_name_servers_that_do_not_answer_are_waited_for_only_so_long(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    started = time.monotonic()
    findings = await examined("https://slow.test", within=0.05)
    assert time.monotonic() - started < 15.0
    assert "no name server answered within 50 ms" in findings[Check.NAME].said
    release.set()


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
async def test_what_cannot_be_a_host_name_is_a_finding_about_the_settings(host):
    finding = (await examined(f"https://{host}"))[Check.SETTINGS]
    assert finding.level is FAILED
    assert "a host that cannot exist" in finding.said


async def test_a_closed_port_is_told(closed_port):
    findings = await examined(closed_port)
    assert levels(findings) == [OK, OK, FAILED, *[SKIPPED] * 4]
    assert "Connection refused" in findings[Check.CONNECTION].said
    assert "Nothing listens" in findings[Check.CONNECTION].remedy


@pytest.fixture
def two_addresses(monkeypatch):
    """Let every name have two addresses, of which one refuses."""
    known = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        hosts = ["127.0.0.1", "127.0.0.9"] if host == "two.test" else [host]
        return [entry for one in hosts for entry in known(one, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def test_addresses_that_do_not_answer_and_missing_tls_are_warnings(start_sandbox, two_addresses):
    sandbox = await start_sandbox(token=TOKEN)
    url = sandbox.base_url.replace("127.0.0.1", "two.test")
    findings = await examined(url, ALTCRAFT_ALLOW_INSECURE="true")
    finding = findings[Check.CONNECTION]
    assert finding.level is WARNING
    assert "in the clear" in finding.said
    assert "1 of 2 addresses do not answer: 127.0.0.9 (Connection refused)" in finding.said
    assert findings[Check.NAME].facts["addresses"] == ["127.0.0.1", "127.0.0.9"]
    assert findings[Check.TOKEN].level is OK


async def test_a_proxy_that_is_not_used_is_pointed_out(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://user:secret@proxy.test:3128")
    finding = (await examined("https://name.invalid"))[Check.NAME]
    assert "HTTPS_PROXY is set and not used" in finding.remedy
    assert "secret" not in finding.remedy


async def test_a_proxy_that_is_used_is_what_is_connected_to(answering, monkeypatch):
    proxy = await answering()
    monkeypatch.setenv("http_proxy", proxy.base_url)
    findings = await examined("http://platform.test", ALTCRAFT_TRUST_ENV="yes", ALTCRAFT_ALLOW_INSECURE="yes")
    assert "the proxy 127.0.0.1" in findings[Check.CONNECTION].said
    assert levels(findings)[:4] == [OK] * 4
    assert "POST http://platform.test/api/v1.1/" in proxy.requests[0].head


# -- TLS


@pytest.fixture
def authority():
    return trustme.CA()


def https(authority, *names, **options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("127.0.0.1",), **options).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls": context}


async def test_a_certificate_that_is_trusted_is_told_with_its_end(answering, authority, trusting):
    ends = datetime.now(UTC) + timedelta(days=60, hours=1)
    server = await answering(tls=https(authority, not_after=ends))
    finding = (await examined(server, options=trusting))[Check.CONNECTION]
    assert finding.level is OK
    assert "TLSv1.3" in finding.said
    assert "certificate for 127.0.0.1 by trustme" in finding.said
    assert "valid for 60 more days" in finding.said
    assert finding.facts["tls"] > 0


async def test_a_certificate_near_its_end_is_a_warning(answering, authority, trusting):
    ends = datetime.now(UTC) + timedelta(days=13, hours=1)
    server = await answering(tls=https(authority, not_after=ends))
    findings = await examined(server, options=trusting)
    assert findings[Check.CONNECTION].level is WARNING
    assert f"before {ends:%Y-%m-%d}" in findings[Check.CONNECTION].remedy
    assert findings[Check.TOKEN].level is OK


@pytest.mark.parametrize(
    ("names", "days", "trusted", "said", "remedy"),
    [
        (("127.0.0.1",), 60, False, "unable to get local issuer certificate", "SSL_CERT_FILE"),
        (("127.0.0.1",), -2, True, "it ended on ", "renew"),
        (("other.test",), 60, True, "it is not for 127.0.0.1", "address as the certificate has it"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_told_with_whose_it_is(  # noqa: PLR0917
    answering, authority, trusting, names, days, trusted, said, remedy
):
    context = https(authority, *names, not_after=datetime.now(UTC) + timedelta(days=days))
    server = await answering(tls=context)
    findings = await examined(server, options=trusting if trusted else None)
    finding = findings[Check.CONNECTION]
    assert levels(findings)[2:] == [FAILED, *[SKIPPED] * 4]
    assert f"certificate for {names[0]} by trustme" in finding.said
    assert said in finding.said
    assert remedy in finding.remedy
    assert server.requests == []


async def test_a_certificate_that_signed_itself_is_told(answering, authority, tmp_path):
    file = tmp_path / "itself.pem"
    file.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    finding = (await examined(await answering(tls=context)))[Check.CONNECTION]
    assert finding.level is FAILED
    assert "certificate for trustme" in finding.said
    assert "self-signed certificate" in finding.said
    assert "something on the way opens the connection" in finding.remedy


async def test_certificates_that_are_not_checked_are_a_warning(answering, authority):
    server = await answering(tls=https(authority))
    findings = await examined(server, options={"tls": False})
    assert findings[Check.CONNECTION].level is WARNING
    assert "the certificate is not checked" in findings[Check.CONNECTION].said
    assert findings[Check.TOKEN].level is OK


async def test_https_to_a_port_without_tls_is_told():
    def answer_at_once(_, writer):
        writer.write(b"HTTP/1.1 400 This port speaks no TLS\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_at_once, "127.0.0.1", 0) as server:
        finding = (await examined(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))[Check.CONNECTION]
    assert finding.level is FAILED
    assert "but TLS with it fails: " in finding.said
    assert "may be http://" in finding.remedy


async def test_a_handshake_that_never_ends_is_told_in_bounded_time(start_raw_server):
    server = await start_raw_server(None)
    finding = (await examined(server.base_url.replace("http:", "https:"), within=0.1))[Check.CONNECTION]
    assert "but TLS with it fails: no answer within 100 ms" in finding.said


# -- the token


@pytest.mark.parametrize(
    ("settings", "kind", "remedy"),
    [
        ({}, AuthenticationError, "Compare ALTCRAFT_TOKEN"),
        ({"wrong_token_code": 403}, PermissionDeniedError, "right to the Market"),
        ({"error_style": "http4xx"}, AuthenticationError, "Compare ALTCRAFT_TOKEN"),
    ],
)
async def test_a_token_that_is_refused_is_told(start_sandbox, settings, kind, remedy):
    findings = await examined(await start_sandbox(**settings))
    assert levels(findings) == [OK, OK, OK, FAILED, OK, SKIPPED, SKIPPED]
    assert type(findings[Check.TOKEN].error) is kind
    assert "refused: the server answered error 40" in findings[Check.TOKEN].said
    assert remedy in findings[Check.TOKEN].remedy


async def test_a_token_that_is_accepted_in_the_other_place_is_told(answering):
    server = await answering()
    server.answers = [server.answer(b'{"error": 401, "error_text": "token required"}'), server.answer(NO_ORDER)]
    finding = (await examined(server, ALTCRAFT_TOKEN_IN="header"))[Check.TOKEN]
    assert finding.level is FAILED
    assert "and accepted in the body" in finding.said
    assert finding.remedy == "Set ALTCRAFT_TOKEN_IN=body."
    assert "Authorization" in server.requests[0].head
    assert b'"token"' in server.requests[1].body


HTML = b"<html><body>Welcome</body></html>"


@pytest.mark.parametrize(
    ("body", "status", "more", "level", "said", "remedy"),
    [
        (b'{"error": 0, "result": {}}', 200, {}, OK, "accepted: the API answered", None),
        (b'{"error": 404, "error_text": "no"}', 404, {}, OK, "accepted, as far as can be told", None),
        (HTML, 200, {"content_type": "text/html"}, FAILED, "HTML page", "platform's own address"),
        (HTML, 404, {"content_type": "text/html"}, FAILED, "HTTP 404 without the API's envelope", "own address"),
        (HTML, 403, {"content_type": "text/html"}, FAILED, "refused: the server answered HTTP 403", "firewall"),
        (HTML, 502, {"content_type": "text/html"}, FAILED, "HTTP 502", "in front of the platform"),
        (b'{"error": 500}', 200, {}, FAILED, "error 500", "fails by itself"),
        (b'{"error": 402}', 200, {}, FAILED, "error 402", "tariff"),
        (b'{"error": 429}', 429, {}, WARNING, "nothing can be told", "other programs"),
        (
            b"",
            301,
            {"Location": "https://u:p@new.test/x?y"},
            FAILED,
            "redirects to https://new.test",
            "if you trust it",
        ),
        (b"", 302, {"Location": "/login"}, FAILED, "redirects (HTTP 302)", "login page"),
        (b'{"error": 0, "x": "' + b"x" * 5000 + b'"}', 200, {}, FAILED, "longer than", "MAX_RESPONSE_BYTES"),
    ],
)
async def test_every_answer_has_its_verdict(answering, body, status, more, level, said, remedy):  # noqa: PLR0917
    server = await answering(body, status=status, **more)
    finding = (await examined(server, ALTCRAFT_MAX_RESPONSE_BYTES="1000"))[Check.TOKEN]
    assert finding.level is level
    assert said in finding.said
    assert (remedy or "") in (finding.remedy or "")
    assert "Welcome" not in repr(finding)


@pytest.mark.parametrize(
    ("answer", "said", "remedy"),
    [("HANG", "no answer in time", "firewall keeps answers back"), (None, "the connection broke", "cuts")],
)
async def test_no_answer_is_told_in_bounded_time(start_raw_server, answer, said, remedy):
    server = await start_raw_server(None)
    server.answers = [server.HANG if answer else None]
    findings = await examined(server, within=0.1)
    assert said in findings[Check.TOKEN].said
    assert remedy in findings[Check.TOKEN].remedy
    assert findings[Check.CLOCK].level is SKIPPED


async def test_one_slip_of_the_server_is_forgiven(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, faults=Faults(script=[Fault("reset_before")]))
    assert levels(await examined(sandbox)) == [OK] * 7


# -- the clock


@pytest.mark.parametrize(("off", "said"), [(3600, "behind"), (-90, "ahead of")])
async def test_a_clock_that_is_off_is_told_with_why_it_matters(answering, off, said):
    server = await answering(Date=formatdate(time.time() + off, usegmt=True))
    finding = (await examined(server))[Check.CLOCK]
    assert finding.level is WARNING
    assert f"s {said} the server's" in finding.said
    assert finding.facts["ahead"] == pytest.approx(-off, abs=2)
    assert "Retry-After" in finding.remedy


@pytest.mark.parametrize("date", ["", "tomorrow", "Mon, 99 Foo 2026"])
async def test_an_answer_without_a_usable_date_tells_nothing(answering, date):
    server = await answering(**({"Date": date} if date else {}))
    assert (await examined(server))[Check.CLOCK].level is SKIPPED


# -- round trips and repeats


async def test_round_trips_say_what_a_rate_needs(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, faults=Faults(latency=0.02))
    finding = (await examined(sandbox))[Check.ROUND_TRIPS]
    assert 0.02 <= finding.facts["minimum"] <= finding.facts["median"] <= finding.facts["maximum"] < 0.2
    assert finding.facts["in_flight_for_rate"]["1000"] >= 20
    assert finding.facts["connection"] > 0


async def test_a_rate_that_the_concurrency_cannot_carry_is_a_warning(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, faults=Faults(latency=0.02))
    finding = (await examined(sandbox, ALTCRAFT_RATE="1000", ALTCRAFT_CONCURRENCY="2"))[Check.ROUND_TRIPS]
    assert finding.level is WARNING
    assert "concurrency allows 2" in finding.remedy


async def test_calls_that_fail_among_others_are_a_warning(start_sandbox):
    faults = Faults(script=[None, Fault("error", status=503), None, None])
    finding = (await examined(await start_sandbox(token=TOKEN, faults=faults)))[Check.ROUND_TRIPS]
    assert finding.level is WARNING
    assert "1 of 3 calls failed (the server answered error 503" in finding.said


async def test_a_server_that_answers_no_further_call_is_a_failure(start_sandbox):
    faults = Faults(script=[None, *[Fault("error", status=500)] * 50])
    finding = (await examined(await start_sandbox(token=TOKEN, faults=faults), within=0.5, calls=10))[Check.ROUND_TRIPS]
    assert finding.level is FAILED
    assert "none of 3 calls was answered" in finding.said


async def test_connections_that_are_not_kept_are_a_warning(answering):
    server = await answering(Connection="close")
    server.keep_alive = False
    finding = (await examined(server))[Check.ROUND_TRIPS]
    assert finding.level is WARNING
    assert "keep-alive" in finding.remedy


async def test_the_measuring_ends_with_the_time_of_one_check(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, faults=Faults(latency=0.2))
    finding = (await examined(sandbox, within=1.0, calls=1000))[Check.ROUND_TRIPS]
    assert finding.facts["calls"] < 10


async def test_a_repeat_that_is_known_under_the_older_name_only_is_a_warning(answering):
    server = await answering()
    plain, repeated = server.answer(NO_ORDER), server.answer(NO_ORDER, X_Duplicate_Request="true")
    server.answers = [plain, plain, plain, plain, plain, repeated]
    finding = (await examined(server, calls=1))[Check.REPEATS]
    assert finding.level is WARNING
    assert finding.remedy.startswith("Set ALTCRAFT_REQUEST_ID_HEADER=X-Request-ID")
    assert "X-Request-ID" in server.requests[-1].head


async def test_a_server_that_marks_no_repeat_proves_nothing(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN, dedup_request_id=False)
    finding = (await examined(sandbox))[Check.REPEATS]
    assert finding.level is SKIPPED
    assert "nothing can be told" in finding.said


# -- for services


async def test_a_session_that_is_given_is_used_and_left_open(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN)
    async with aiohttp.ClientSession() as session:
        assert levels(await examined(sandbox, options={"session": session})) == [OK] * 7
        assert not session.closed


async def test_with_a_transport_of_ones_own_the_network_is_not_looked_at():
    class Pigeon:
        async def send(self, request, *, connect, total, max_bytes, fresh=False):
            return WireResponse(200, {"Date": formatdate(usegmt=True), "Duplicate-Request": "true"}, NO_ORDER)

        async def aclose(self):
            pass

    environ = {"ALTCRAFT_BASE_URL": "https://nowhere.invalid", "ALTCRAFT_TOKEN": TOKEN}
    findings = [finding async for finding in diagnose(environ, transport=Pigeon())]
    assert [finding.check for finding in findings] == [
        Check.SETTINGS, Check.TOKEN, Check.CLOCK, Check.ROUND_TRIPS, Check.REPEATS,
    ]  # fmt: skip
    assert findings[1].level is OK


async def test_a_diagnosis_can_be_left_and_cancelled_at_any_finding(start_sandbox):
    sandbox = await start_sandbox(token=TOKEN)
    environ = {"ALTCRAFT_BASE_URL": sandbox.base_url, "ALTCRAFT_TOKEN": TOKEN}
    for last in MADE:
        async with contextlib.aclosing(diagnose(environ, calls=1)) as findings:
            async for finding in findings:
                if finding.check is last:
                    break
    sandbox.faults = Faults(latency=5.0)
    task = asyncio.ensure_future(anext(_only(Check.TOKEN, diagnose(environ))))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _only(check, findings):
    async with contextlib.aclosing(findings):
        async for finding in findings:
            if finding.check is check:
                yield finding

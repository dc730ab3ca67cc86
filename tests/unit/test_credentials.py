"""Tokens that come from a source: asked once for all who wait, again after a refusal, and never shown."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from altcraft_async import ClientClosedError, ConfigurationError
from altcraft_async.engine.credentials import Credentials, Token, TokenFile
from altcraft_async.protocol.wire import Call, Wire

CANARY = "canary-4f1d"


class Source:
    """Gives its tokens in turn, the last one again and again; counts how often it is asked."""

    def __init__(self, *tokens, pause=0):
        self.tokens = list(tokens)
        self.asked = 0
        self.pause = pause
        self.opened = asyncio.Event()

    async def __call__(self):
        self.asked += 1
        if self.pause:
            await self.opened.wait()
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, BaseException):
            raise token
        return token


def credentials_of(source, **choices) -> Credentials:
    return Credentials(Token(source), partial(Wire, **choices))


def token_of(wire: Wire) -> str:
    return wire.encode(Call("x", {}), "id").body.decode().split('"token":"')[1].split('"')[0].strip()


async def renewed(credentials: Credentials, refused: Wire) -> Wire | None:
    """Refuse a wire; return the one that comes instead, None where there is none."""
    if not credentials.refuse(refused):
        return None
    wire = await credentials.ready()
    return None if wire is refused else wire


async def test_a_fixed_token_is_there_at_once_and_cannot_be_renewed():
    credentials = credentials_of("a")
    assert token_of(credentials.wire) == "a"
    assert await credentials.ready() is credentials.wire
    assert await renewed(credentials, credentials.wire) is None


@pytest.mark.parametrize("token", ["", "two words", "line\n", "токен"])
def test_a_fixed_token_that_cannot_work_is_refused_when_it_is_given(token):
    with pytest.raises(ConfigurationError, match="token"):
        credentials_of(token)


@pytest.mark.parametrize("given", [None, 5, b"bytes", ["x"]])
def test_what_is_no_token_and_gives_none_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"token must be a text, or a callable that gives one, not a \w+") as e:
        Token(given)
    assert e.value.field == "token"


async def test_a_plain_function_is_a_source_too():
    credentials = credentials_of(lambda: "plain")
    assert credentials.wire is None
    assert token_of(await credentials.ready()) == "plain"


async def test_a_source_is_asked_at_first_use_once_for_a_hundred_that_wait():
    source = Source("a", pause=1)
    credentials = credentials_of(source)
    assert source.asked == 0
    waiting = [asyncio.ensure_future(credentials.ready()) for _ in range(100)]
    await asyncio.sleep(0)
    source.opened.set()
    assert {id(wire) for wire in await asyncio.gather(*waiting)} == {id(credentials.wire)}
    await credentials.ready()
    assert source.asked == 1


async def test_after_a_refusal_it_is_asked_once_for_a_hundred_that_wait():
    source = Source("a", "b")
    credentials = credentials_of(source)
    refused = await credentials.ready()
    source.pause = 1
    waiting = [asyncio.ensure_future(renewed(credentials, refused)) for _ in range(100)]
    await asyncio.sleep(0)
    source.opened.set()
    assert {token_of(wire) for wire in await asyncio.gather(*waiting)} == {"b"}
    assert source.asked == 2


async def test_who_comes_late_with_a_replaced_wire_gets_the_new_one_without_a_question():
    source = Source("a", "b", "c")
    credentials = credentials_of(source)
    refused = await credentials.ready()
    new = await renewed(credentials, refused)
    assert await renewed(credentials, refused) is new
    assert source.asked == 2


async def test_a_source_that_gives_the_same_again_renews_nothing_and_is_asked_at_the_next_refusal():
    source = Source("a", "a", "b")
    credentials = credentials_of(source)
    refused = await credentials.ready()
    assert await renewed(credentials, refused) is None
    assert credentials.wire is refused
    assert token_of(await renewed(credentials, refused)) == "b"


async def test_copies_of_a_client_share_what_the_source_gave():
    source = Source("a", "b")
    token = Token(source)
    first, second = Credentials(token, Wire), Credentials(token, partial(Wire, request_id_header="X-Request-ID"))
    old, other = await first.ready(), await second.ready()
    assert source.asked == 1
    await renewed(first, old)
    assert token_of(await renewed(second, other)) == "b"
    assert source.asked == 2


async def test_cancelling_one_who_waits_leaves_the_others_alone():
    source = Source("a", pause=1)
    credentials = credentials_of(source)
    waiting = [asyncio.ensure_future(credentials.ready()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    source.opened.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is results[2] is credentials.wire


async def test_a_source_that_is_slower_than_each_of_its_callers_has_its_token_ready_for_the_next():
    source = Source("a", pause=1)
    credentials = credentials_of(source)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await credentials.ready()
    source.opened.set()
    assert token_of(await credentials.ready()) == "a"
    assert source.asked == 1


async def test_a_copy_with_little_time_ends_nobody_elses_wait():
    source = Source("a", pause=1)
    token = Token(source)
    hasty, patient = Credentials(token, Wire, within=0.01), Credentials(token, Wire)
    waiting = asyncio.ensure_future(patient.ready())
    with pytest.raises(ConfigurationError, match=r"it gave none within 0\.01 s"):
        await hasty.ready()
    source.opened.set()
    assert token_of(await waiting) == "a"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ValueError(CANARY), "ValueError"),
        (asyncio.CancelledError(), "it was cancelled"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_a_source_that_fails_is_a_configuration_error_without_its_words(failure, said):
    source = Source(failure, CANARY)
    credentials = credentials_of(source)
    waiting = [asyncio.ensure_future(credentials.ready()) for _ in range(3)]
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert isinstance(error, ConfigurationError)
        assert str(error) == f"the source of the token failed ({said}); see that it gives a token when it is called"
        assert (error.field, error.__cause__, error.__context__) == ("token", None, None)
    assert token_of(await credentials.ready()) == CANARY


@pytest.mark.parametrize("given", [None, 5, b"x"])
async def test_what_is_no_text_is_told_by_its_kind(given):
    with pytest.raises(ConfigurationError, match=f"it gave a {type(given).__name__} instead of a text"):
        await credentials_of(lambda: given).ready()


async def test_a_token_that_cannot_be_sent_is_not_kept():
    source = Source("a", "two words", "b")
    credentials = credentials_of(source)
    refused = await credentials.ready()
    with pytest.raises(ConfigurationError, match="token has a blank"):
        await renewed(credentials, refused)
    assert credentials.wire is None
    assert token_of(await renewed(credentials, refused)) == "b"


async def test_a_token_file_is_read_again_after_a_refusal(tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    credentials = credentials_of(TokenFile(file))
    refused = credentials.wire
    assert token_of(refused) == "old"
    assert await renewed(credentials, refused) is None
    file.write_text("new\n")
    assert token_of(await renewed(credentials, refused)) == "new"


@pytest.mark.slow
async def test_a_token_file_that_is_being_written_is_waited_for(tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    credentials = credentials_of(TokenFile(file))
    file.write_text("")
    waiting = asyncio.create_task(renewed(credentials, credentials.wire))
    await asyncio.sleep(0.15)
    assert not waiting.done()
    file.write_text("new\n")
    assert token_of(await waiting) == "new"


@pytest.mark.slow
async def test_a_token_file_that_went_away_is_named(tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    credentials = credentials_of(TokenFile(file, name="ALTCRAFT_TOKEN_FILE"))
    file.unlink()
    with pytest.raises(ConfigurationError, match=f"ALTCRAFT_TOKEN_FILE {file} cannot be read"):
        await renewed(credentials, credentials.wire)


async def test_while_the_source_is_asked_nobody_has_the_token_that_was_refused():
    source = Source("a", "b")
    credentials = credentials_of(source)
    refused = await credentials.ready()
    source.pause = 1
    assert credentials.refuse(refused)
    assert credentials.wire is None
    waiting = asyncio.ensure_future(credentials.ready())
    await asyncio.sleep(0)
    source.opened.set()
    assert token_of(await waiting) == "b"
    assert credentials.changes == 1


async def test_a_source_that_gives_nothing_in_its_time_has_failed():
    source = Source("a", pause=1)
    credentials = Credentials(Token(source), Wire, within=0.01)
    for asked in (1, 2):  # what hangs is not waited for twice
        with pytest.raises(ConfigurationError, match=r"it gave none within 0\.01 s"):
            await credentials.ready()
        assert source.asked == asked


async def test_closing_ends_the_wait_of_all_and_begins_no_other():
    credentials = credentials_of(Source("a", pause=1))
    waiting = [asyncio.ensure_future(credentials.ready()) for _ in range(3)]
    await asyncio.sleep(0)
    credentials.token.close()
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, ClientClosedError)
    with pytest.raises(ClientClosedError):
        await credentials.ready()


async def test_no_repr_shows_a_token(tmp_path):
    file = tmp_path / "token"
    file.write_text(CANARY)
    for source in (CANARY, Source(CANARY), TokenFile(file)):
        credentials = credentials_of(source)
        wire = await credentials.ready()
        shown = f"{credentials!r} {credentials.token!r} {wire!r} {TokenFile(file)!r}"
        assert CANARY not in shown
    assert repr(credentials_of(CANARY)) == "<Credentials <Token, fixed>>"

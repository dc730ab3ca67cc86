"""Bodies that a proxy compressed on the way."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import TYPE_CHECKING

import pytest

from altcraft_async.errors import ResponseTooLargeError, UnreadableResponseError
from altcraft_async.protocol.encoding import decoded

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN = b'{"error": 0, "error_text": ""}' * 40


def raw_deflate(body: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", PLAIN),
        ("identity", PLAIN),
        (" GZIP ", gzip.compress(PLAIN, mtime=0)),
        ("x-gzip", gzip.compress(PLAIN, mtime=0)),
        ("gzip", gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:])),
        ("deflate", zlib.compress(PLAIN)),
        ("deflate", raw_deflate(PLAIN)),
    ],
)
def test_a_body_is_what_it_was_before(encoding: str, body: bytes) -> None:
    assert decoded(body, encoding, max_bytes=len(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)]
)
def test_what_repeats_from_as_far_back_as_a_window_reaches_is_found(
    encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    noise = random.Random(1).randbytes(30_000)
    assert decoded(compress(noise + noise), encoding, max_bytes=60_000) == noise + noise


def test_a_body_without_a_header_is_known_by_its_first_byte() -> None:
    bodies = [random.Random(seed).randbytes(300).hex().encode() for seed in range(60)]
    assert {raw_deflate(body)[0] & 0xF for body in bodies} == {0x5, 0xD}
    for body in bodies:
        assert decoded(raw_deflate(body), "deflate", max_bytes=600) == body


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "br"])
def test_nothing_is_nothing_in_any_encoding(encoding: str) -> None:
    assert decoded(b"", encoding, max_bytes=10) == b""


@pytest.mark.parametrize(
    ("encoding", "body", "said"),
    [
        ("br", PLAIN, "was not asked for"),
        ("gzip", PLAIN, "is not the gzip"),
        ("deflate", b"\xff" + PLAIN, "is not the deflate"),
        ("gzip", gzip.compress(PLAIN, mtime=0)[:-9], "was cut off"),
    ],
)
def test_what_cannot_be_read_is_said(encoding: str, body: bytes, said: str) -> None:
    with pytest.raises(UnreadableResponseError, match=said):
        decoded(body, encoding, max_bytes=10_000)


def test_no_more_is_unpacked_than_is_allowed() -> None:
    with pytest.raises(ResponseTooLargeError, match=r"max_response_bytes \(1199\)") as caught:
        decoded(gzip.compress(PLAIN, mtime=0), "gzip", max_bytes=len(PLAIN) - 1)
    assert caught.value.status == 0, "the caller knows it"
    with pytest.raises(ResponseTooLargeError):
        decoded(gzip.compress(PLAIN[:600]) + gzip.compress(PLAIN[600:]), "gzip", max_bytes=1199)

"""How a row and a run are recognised: digests, seals that bind an outcome to its row, and ids; pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING
from zlib import crc32

from altcraft_async.outcome import Fingerprint
from altcraft_async.protocol.values import LineStatusUpdate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    from altcraft_async.errors import InvalidUpdateError

    Row: TypeAlias = LineStatusUpdate | Fingerprint | InvalidUpdateError
    Fact: TypeAlias = str | int | float | None

__all__ = [
    "batch_request_id_of",
    "content_of",
    "id_prefix",
    "key_of",
    "request_id_of_update",
    "seal_of_facts",
    "sealed",
]


def key_of(row: LineStatusUpdate | Fingerprint | None) -> bytes:
    """Return a digest of what a row is about, an order line or an order: 64 bits, so that no two of a run share one."""
    if row is None:
        return b""
    if isinstance(row, Fingerprint):
        return blake2b(row.external_id.encode(), digest_size=8).digest()
    update = row
    about = f"{update.order_external_id}\x1f{update.order_line_external_id}"
    return blake2b(about.encode(), digest_size=8).digest()


def content_of(row: Row) -> int:
    """Return a checksum of all that a row says, by which a changed one is recognised."""
    if isinstance(row, LineStatusUpdate):
        said = f"{row.order_external_id}\x1f{row.order_line_external_id}\x1f{row.status_external_id}"
        return crc32((said if row.request_id is None else f"{said}\x1f{row.request_id}").encode())
    if isinstance(row, Fingerprint):
        return row.content
    return crc32(row.message.encode(errors="surrogatepass"))


def sealed(row: int, content: int, state: int, round_: int) -> int:
    """Bind what is recorded of a row to its `content`, so that neither can change unnoticed.

    `state` is at most 15. Sealing a seal with the same values gives the content back.
    """
    return content ^ ((state << 28 ^ row) * 0x9E3779B1 ^ round_ * 0x85EBCA6B) & 0xFFFFFFFF


def seal_of_facts(facts: Iterable[tuple[str, Fact]]) -> int:
    """Return a checksum of named facts, whatever their order."""
    return crc32("\x1f".join(f"{name}={value!r}" for name, value in sorted(facts)).encode(errors="surrogatepass"))


def id_prefix(run_id: str) -> str:
    """Return the part of a ``Request-ID`` that all updates of a run share; `run_id` has the form of a UUID."""
    return f"{run_id[:13]}-8{run_id[15:18]}-a"


def request_id_of(prefix: str, index: int, content: int, round_: int) -> str:
    """Return the ``Request-ID`` of a row: of its run, its index, its content, and how often it was rejected before.

    It has the form of a UUID of version 8.
    """
    said = (content + round_ * 0x9E3779) & 0xFFFFFF
    return f"{prefix}{said >> 12:03x}-{said & 0xFFF:03x}{index:09x}"


def request_id_of_update(prefix: str, index: int, update: LineStatusUpdate, round_: int) -> str:
    """Return the ``Request-ID`` of an update: its own, with how often it was rejected before, or `request_id_of` it."""
    own = update.request_id
    if own is None:
        return request_id_of(prefix, index, content_of(update), round_)
    return f"{own}-r{round_}" if round_ else own


def batch_request_id_of(prefix: str, rows: Sequence[tuple[int, int, int]]) -> str:
    """Return the ``Request-ID`` of a batch: of its run, and of the index, content and round of each of its rows.

    Halves have other ids than the whole.
    """
    said = crc32("\x1f".join(f"{index}:{content}:{round_}" for index, content, round_ in rows).encode())
    return request_id_of(prefix, rows[0][0], said ^ said >> 8, 0)

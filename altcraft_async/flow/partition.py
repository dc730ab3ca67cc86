"""Order → bucket: the one hash by which work is divided among many.

Whatever divides work by orders, like the buckets of an outbox that several processes
drain, or the shards of a large input, must agree on where an order belongs, over
processes, machines and releases. So the hash is of the order's id as it is written,
never Python's own, which differs from process to process.

Pure.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["bucket_of"]


def bucket_of(order_external_id: str, buckets: int) -> int:
    """Return the bucket of an order, from 0 to `buckets` - 1; the same everywhere and for ever."""
    digest = blake2b(order_external_id.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets

"""What an import is given: rows become the bytes that are sent, and what they are known by.

A value was checked when it was made; of a mapping only that it has what is required is
looked at, and its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias
from zlib import crc32

import attrs

from altcraft_async.errors import ConfigurationError, InvalidUpdateError
from altcraft_async.outcome import Fingerprint
from altcraft_async.protocol.methods import IMPORT_ORDERS, IMPORT_PRODUCTS, IMPORT_SKUS
from altcraft_async.protocol.values.orders import Order
from altcraft_async.protocol.values.products import Product, Sku
from altcraft_async.protocol.values.schema import check_external_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from altcraft_async.protocol.values import JSON
    from altcraft_async.protocol.wire import RowCodec

__all__ = ["KINDS", "ReadRow", "ReadRows", "fields_reader", "row_reader", "rows_reader"]

ReadRow: TypeAlias = "tuple[Fingerprint, bytes] | InvalidUpdateError"
ReadRows: TypeAlias = "tuple[list[str], bytes]"
"""The ids of many rows, none of which comes twice, and the rows as they stand in a call."""

KINDS: Final[Mapping[str, type[Order | Product | Sku]]] = {
    IMPORT_ORDERS.path: Order,
    IMPORT_PRODUCTS.path: Product,
    IMPORT_SKUS.path: Sku,
}
"""What the rows of each import are."""


def row_reader(method: str, codec: RowCodec, most: int) -> Callable[[object], ReadRow]:
    """Return what writes one row of an import, or says what is wrong with it; `most` is how many bytes it can have."""
    kind, encode = KINDS[method], codec.encode_row
    required = _required(kind)

    def read(row: object) -> ReadRow:
        try:
            fields = row.to_dict() if isinstance(row, kind) else _fields_of(row, kind, required)
            body = encode(fields)
        except InvalidUpdateError as error:
            return error
        except (TypeError, ValueError, RecursionError) as error:
            return _unwritable(row, kind, error)
        external_id = fields["external_id"]
        if type(external_id) is not str:
            external_id = str(external_id)
        size = len(body)
        return (
            _too_long(external_id, size, most) if size > most else (Fingerprint(external_id, crc32(body), size), body)
        )

    return read


def rows_reader(method: str, codec: RowCodec) -> Callable[[list[object]], ReadRows | None]:
    """Return what writes many mappings at once, in a third of the time, or None where one of them is unusual."""
    encode = codec.encode_rows
    columns = [itemgetter(name) for name in _required(KINDS[method]) if name != "external_id"]
    id_of = itemgetter("external_id")

    def read(rows: list[object]) -> ReadRows | None:
        if set(map(type, rows)) != {dict}:
            return None
        try:
            ids: list[str] = list(map(id_of, rows))  # type: ignore[arg-type]  # they are dictionaries, and ids are looked at below
            if set(map(type, ids)) != {str} or len(set(ids)) < len(ids) or not all(ids):
                return None
            if not "".join(ids).isprintable() or [*map(str.strip, ids)] != ids:
                return None
            if not all(all(map(column, rows)) for column in columns):  # type: ignore[arg-type]
                return None
            return ids, encode(rows)  # type: ignore[arg-type]  # they are dictionaries
        except (LookupError, TypeError, ValueError, RecursionError):
            return None

    return read


def fields_reader(method: str) -> Callable[[object], Mapping[str, JSON]]:
    """Return what reads one mapping as an import does; it raises `InvalidUpdateError`."""
    kind = KINDS[method]
    required = _required(kind)
    return lambda row: _fields_of(row, kind, required)


def _required(kind: type[Order | Product | Sku]) -> Sequence[str]:
    return [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]


def _fields_of(row: object, kind: type, required: Sequence[str]) -> Mapping[str, JSON]:
    """Return the fields of a mapping whose required ones are there; raises `InvalidUpdateError`."""
    if isinstance(row, InvalidUpdateError):
        raise row
    if not isinstance(row, Mapping):
        noun = _article(kind.__name__)
        msg = f"a row must be {noun} or a mapping with the platform's names, not {_kind_of(row)}"
        raise InvalidUpdateError(msg)
    if not all(map(row.get, required)):
        _check_required(row, required)
    external_id = check_external_id(row["external_id"])
    return row if external_id is row["external_id"] else {**row, "external_id": external_id}


def _check_required(row: Mapping[str, object], required: Sequence[str]) -> None:
    for name in required:
        value = row.get(name)
        if value is None or (isinstance(value, str | list | tuple) and not value):
            what = "is required and not there" if value is None else "is empty; give it"
            msg = f"{name} {what}"
            raise InvalidUpdateError(msg, field=name)


def _unwritable(row: object, kind: type, error: Exception) -> InvalidUpdateError:
    name = row.get("external_id") if isinstance(row, Mapping) else getattr(row, "external_id", None)
    if isinstance(error, ConfigurationError):
        return InvalidUpdateError(f"{kind.__name__} {name!r}: {error.message}")
    remedy = (
        "remove characters that are half of a pair" if isinstance(error, UnicodeError) else "use JSON's plain types"
    )
    return InvalidUpdateError(f"{kind.__name__} {name!r} holds a value that cannot be written; {remedy}")


def _too_long(external_id: str, size: int, most: int) -> InvalidUpdateError:
    msg = (
        f"{external_id} takes {size} bytes, and a batch has room for {most}; "
        "make it smaller, or raise batch_bytes as far as the platform allows (10 MB by default)"
    )
    return InvalidUpdateError(msg)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"


def _kind_of(value: object) -> str:
    return _article(type(value).__name__)

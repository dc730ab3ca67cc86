"""The formats of inputs, and how one is told from the other."""

from __future__ import annotations

import enum
from pathlib import Path

from altcraft_async.ingest.errors import InputError
from altcraft_async.ingest.text import say_foreign, say_utf16

__all__ = ["OF_JSON", "InputFormat", "format_of"]

_BOM = b"\xef\xbb\xbf"
_WORKBOOK = b"PK\x03\x04"


class InputFormat(enum.StrEnum):
    """The formats that can be read."""

    CSV = "csv"
    """Comma, semicolon or tab separated values, with a header."""
    JSONL = "jsonl"
    """JSON lines: one object a line."""
    JSON = "json"
    """One JSON array of objects."""
    XLSX = "xlsx"
    """The first sheet of an Excel workbook, with a header; needs the extra ``excel``."""
    PARQUET = "parquet"
    """Parquet, a file or several; needs the extra ``arrow``."""
    ARROW = "arrow"
    """Arrow, a file, a stream, or an object that exports its columns; needs the extra ``arrow``."""

    @property
    def of_rows(self) -> InputFormat:
        """The format in which rows of this one are written: CSV or JSON lines."""
        return InputFormat.CSV if self in {InputFormat.CSV, InputFormat.XLSX} else InputFormat.JSONL

    @classmethod
    def of_name(cls, name: str) -> InputFormat | None:
        """Return the format that the suffix of a file names, also before ``.gz``; None for any other."""
        return _BY_SUFFIX.get(Path(name.lower().removesuffix(".gz")).suffix)


_BY_SUFFIX = {
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.CSV,
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSON,
    ".xlsx": InputFormat.XLSX,
    ".xlsm": InputFormat.XLSX,
    ".parquet": InputFormat.PARQUET,
    ".pq": InputFormat.PARQUET,
    ".arrow": InputFormat.ARROW,
    ".feather": InputFormat.ARROW,
    ".ipc": InputFormat.ARROW,
    ".arrows": InputFormat.ARROW,
}


def format_of(source: str, head: bytes, chosen: InputFormat | None) -> InputFormat:
    """Tell the format by what was chosen, the first bytes and the name; raise `InputError` for what is none."""
    start = head.lstrip(_BOM + b" \t\r\n")
    found = chosen or InputFormat.of_name(source)
    is_workbook = head.startswith(_WORKBOOK)
    if is_workbook and found in {None, InputFormat.XLSX}:
        return InputFormat.XLSX
    foreign = say_foreign(head)
    if foreign is None and (utf16 := say_utf16(head)) is not None:
        msg = f"{source} is UTF-16; read it as that, or save it as UTF-8"
        raise InputError(msg, source=source, encoding=utf16)
    if foreign is not None:
        msg = f"{source} is {foreign}"
    elif found is InputFormat.XLSX:
        msg = f"{source} is no Excel workbook (.xlsx); open it in Excel and save it as one"
    elif chosen is None and found in OF_JSON and _looks_like_csv(start):
        msg = f"{source} is called JSON and is none; where it is CSV, say so (format csv)"
    elif chosen is InputFormat.CSV or start[:1] not in {b"{", b"["}:
        return found or InputFormat.CSV if found is not InputFormat.JSON else InputFormat.JSONL
    elif start[:1] == b"[":
        return InputFormat.JSON
    elif start.split(b"\n", 1)[0].strip() == b"{":
        msg = f"{source} is not JSON lines: it must have one whole object a line, or be one array of objects"
    else:
        return InputFormat.JSONL
    raise InputError(msg, source=source)


OF_JSON = {InputFormat.JSON, InputFormat.JSONL}


def _looks_like_csv(start: bytes) -> bool:
    line = start.split(b"\n", 1)[0]
    return not set(b"{}[]") & set(start) and any(separator in line for separator in (b",", b";", b"\t"))

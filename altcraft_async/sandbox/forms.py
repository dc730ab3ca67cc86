"""`Faults` as JSON and TOML write them: one table of their fields, from which they are read, shown and described.

Pure. What cannot be read is refused with the field's name and what belongs there.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.faults import Fault, FaultKind, Faults
from altcraft_async.sandbox.presets import PRESETS, preset

__all__ = ["FAULT_FIELDS", "FaultField", "Kind", "faults_from", "faults_to_dict", "preset_of"]


class Kind(enum.StrEnum):
    """What a field of `Faults` takes."""

    SHARE = "share"
    NUMBER = "number"
    WHOLE = "whole"
    CHOICE = "choice"
    TEXTS = "texts"
    SCRIPT = "script"
    LINES = "lines"


@attrs.frozen(kw_only=True)
class FaultField:
    """One field of `Faults`: what it takes, and what it does in a few words; `empty` where null means none."""

    kind: Kind
    help: str
    empty: bool = False
    choices: tuple[str, ...] = ()


def _share(text: str) -> FaultField:
    return FaultField(kind=Kind.SHARE, help=text)


FAULT_FIELDS: Final[Mapping[str, FaultField]] = {
    "too_many_requests": _share("429, not made"),
    "error_503": _share("503, not made"),
    "error_500": _share("500, not made"),
    "error_502": _share("502, not made"),
    "html_502": _share("a proxy's page 502, not made"),
    "reset_before": _share("connection reset, not made"),
    "error_after": _share("500, although made"),
    "reset_after": _share("connection reset, although made"),
    "truncated": _share("made, the answer cut off"),
    "malformed": _share("made, the answer broken inside"),
    "oversized": _share("made, the answer far too long"),
    "slow_body": _share("made, the answer drips out"),
    "latency": FaultField(kind=Kind.NUMBER, help="seconds that a request takes"),
    "jitter": FaultField(kind=Kind.NUMBER, help="part of the latency by which it varies"),
    "jitter_form": FaultField(kind=Kind.CHOICE, help="how it varies", choices=("uniform", "exponential")),
    "slots": FaultField(kind=Kind.WHOLE, help="requests in process at once", empty=True),
    "over_slots": FaultField(kind=Kind.CHOICE, help="one more of them waits, or gets 429", choices=("queue", "reject")),
    "rate": FaultField(kind=Kind.NUMBER, help="requests a second that are let in; the others get 429", empty=True),
    "burst": FaultField(kind=Kind.NUMBER, help="requests let in at once before the rate counts", empty=True),
    "retry_after": FaultField(kind=Kind.NUMBER, help="seconds in Retry-After of 429 and 503", empty=True),
    "retry_after_form": FaultField(kind=Kind.CHOICE, help="how Retry-After is written", choices=("seconds", "date")),
    "oversized_bytes": FaultField(kind=Kind.WHOLE, help="bytes of a far too long answer"),
    "slow_body_seconds": FaultField(kind=Kind.NUMBER, help="seconds over which an answer drips out"),
    "only": FaultField(kind=Kind.TEXTS, help="methods concerned, for example market/orders/import; empty: all"),
    "script": FaultField(kind=Kind.SCRIPT, help="faults of the first requests, in order", empty=True),
    "lines": FaultField(kind=Kind.LINES, help="faults of chosen order lines", empty=True),
}
"""Every field, in the order in which people meet them."""


def preset_of(faults: Faults) -> str | None:
    """Return the name of the preset that these are, or None."""
    return next((name for name, one in PRESETS.items() if one.faults == faults), None)


# -- to JSON ----------------------------------------------------------------------------------------


def faults_to_dict(faults: Faults) -> dict[str, object]:
    """Return faults as a JSON object that `faults_from` takes; functions are shown as the text ``"a function"``."""
    shown: dict[str, object] = {name: getattr(faults, name) for name in FAULT_FIELDS}
    shown["only"] = sorted(faults.only)
    script, lines = faults.script, faults.lines
    if script is not None:
        shown["script"] = "a function" if callable(script) else [_fault_to_dict(one) for one in script]
    if lines is not None:
        shown["lines"] = "a function" if callable(lines) else [_line_to_dict(*item) for item in lines.items()]
    return shown


def _line_to_dict(key: tuple[str, str], faults: Fault | Sequence[Fault | None]) -> dict[str, object]:
    given: object = _fault_to_dict(faults) if isinstance(faults, Fault) else [_fault_to_dict(one) for one in faults]
    return {"order": key[0], "line": key[1], "faults": given}


def _fault_to_dict(fault: Fault | None) -> dict[str, object] | None:
    return None if fault is None else {**attrs.asdict(fault), "kind": str(fault.kind)}


# -- from JSON and TOML -----------------------------------------------------------------------------


def faults_from(given: object, base: Faults | None = None) -> Faults:
    """Read faults: the name of a preset, or an object of fields, on top of its ``preset``, else of `base`.

    Raises `ConfigurationError`, which names the field.
    """
    if isinstance(given, str):
        return preset(given)
    if not isinstance(given, Mapping):
        _refuse("faults", "the name of a preset or an object")
    fields = dict(given)
    start = preset(fields.pop("preset")) if "preset" in fields else base or Faults()
    unknown = sorted(fields.keys() - FAULT_FIELDS.keys())
    if unknown:
        msg = f"{unknown[0][:80]} is no fault; known are preset, {', '.join(FAULT_FIELDS)}"
        raise ConfigurationError(msg, field=unknown[0])
    return attrs.evolve(start, **{name: _read(name, value) for name, value in fields.items()})


def _read(name: str, value: object) -> Any:
    field = FAULT_FIELDS[name]
    if value is None and field.empty:
        return None
    if field.kind is Kind.CHOICE and value not in field.choices:
        _refuse(name, f"one of {', '.join(field.choices)}")
    return value if field.kind is Kind.CHOICE else _READERS[field.kind](name, value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _refuse(name, "a number")
    return value


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(name, "a whole number")
    return value


def _sequence(name: str, value: object) -> list[Fault | None]:
    if not isinstance(value, list):
        _refuse(name, "an array of faults")
    return [_fault(f"{name}[{place}]", one) for place, one in enumerate(value)]


def _texts(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        _refuse(name, "an array of texts")
    return value


def _lines(_: str, value: object) -> dict[tuple[str, str], Fault | Sequence[Fault | None]]:
    if not isinstance(value, list):
        _refuse("lines", "an array of objects with order, line and faults")
    found: dict[tuple[str, str], Fault | Sequence[Fault | None]] = {}
    for place, one in enumerate(value):
        name = f"lines[{place}]"
        if not isinstance(one, Mapping) or one.keys() != {"order", "line", "faults"}:
            _refuse(name, "an object with order, line and faults")
        order, line, faults = one["order"], one["line"], one["faults"]
        if not isinstance(order, str) or not isinstance(line, str):
            _refuse(name, "of an order and a line that are texts")
        if isinstance(faults, list):
            found[order, line] = _sequence(f"{name}.faults", faults)
        elif (fault := _fault(f"{name}.faults", faults)) is not None:
            found[order, line] = fault
    return found


def _fault(name: str, value: object) -> Fault | None:
    """Read one fault: its kind, an object with `kind`, or null or ``"none"`` for no fault."""
    if value is None or value == "none":
        return None
    fields = {"kind": value} if isinstance(value, str) else value
    allowed = {field.name for field in attrs.fields(Fault)}
    if not isinstance(fields, Mapping) or "kind" not in fields or not fields.keys() <= allowed:
        _refuse(name, f"a kind of fault, or an object with kind and any of {', '.join(sorted(allowed - {'kind'}))}")
    if fields["kind"] not in set(FaultKind):
        _refuse(f"{name}.kind", f"one of {', '.join(FaultKind)}")
    read = {
        key: one if key == "kind" or one is None else (_whole if key in _WHOLE else _number)(f"{name}.{key}", one)
        for key, one in fields.items()
    }
    if any(one is None and key not in _MAY_BE_EMPTY for key, one in read.items()):
        _refuse(name, "without nulls, but for retry_after and lasting")
    return Fault(**read)  # type: ignore[arg-type]


_READERS: Final[Mapping[Kind, Callable[[str, object], Any]]] = {
    Kind.SHARE: _number,
    Kind.NUMBER: _number,
    Kind.WHOLE: _whole,
    Kind.TEXTS: _texts,
    Kind.SCRIPT: _sequence,
    Kind.LINES: _lines,
}
_WHOLE = frozenset({"status", "size"})
_MAY_BE_EMPTY = frozenset({"retry_after", "lasting"})


def _refuse(name: str, wanted: str) -> NoReturn:
    msg = f"{name} must be {wanted}"
    raise ConfigurationError(msg, field=name)

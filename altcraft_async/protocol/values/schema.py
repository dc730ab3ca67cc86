"""How the Market's values are checked, read out of answers, and written: by the forms of their fields.

A class of values is a frozen attrs class below `Value`, whose fields have the
platform's own names; ``metadata`` gives each its `Form`. What a caller gives is
checked: an error names the field, with its way in from the outside, as in
``lines[1].external_id``. What an answer says is taken as it is: nothing in it is
ever an error or lost. What has no field, or cannot be what its field holds, stands
in ``extra``.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import attrs

from altcraft_async.errors import InvalidUpdateError
from altcraft_async.protocol.plain import plain_decimal

if TYPE_CHECKING:
    from collections.abc import Callable

    from altcraft_async.protocol.values.lines import JSON

__all__ = [
    "ANY", "FIELDS", "FLAG", "ID", "KEY", "MONEY", "TEXT", "TIME", "WHOLE", "Form", "Value", "check_external_id",
    "check_name", "formed", "many", "one", "text_up_to", "wrong",
]  # fmt: skip


@attrs.frozen(eq=False)
class Form:
    """What a field can hold.

    `check` takes the field's name and what a caller gave, and returns the value or raises
    `InvalidUpdateError`. `take` does the same with what an answer has, and raises
    `ValueError`. `write` turns a value into JSON's plain types. `empty` stands for a required
    field that an answer leaves out.
    """

    check: Callable[[str, object], object]
    take: Callable[[object], object]
    write: Callable[[Any], JSON]
    empty: object


def wrong(field: str, what: str) -> NoReturn:
    """Raise the error that says what is wrong with a field; its message begins with the field's name."""
    msg = f"{field} {what}"
    raise InvalidUpdateError(msg, field=field)


def _same(value: Any) -> Any:
    return value


def _as(check: Callable[[str, object], object], take: Callable[[object], object], empty: object) -> dict[str, Form]:
    return {"form": Form(check, take, _same, empty)}


# -- texts

_UNSENDABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What UTF-8 or XML 1.0 cannot carry, and control characters; lines and tabs may be in a text."""
_BREAKS = re.compile("[\t\r\n]")


def _kind(value: object) -> str:
    return type(value).__name__


def _text(field: str, value: object) -> str:
    if type(value) is str and value.isprintable():  # nearly every text
        return value
    if isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    else:
        wrong(field, f"must be a string, not {_kind(value)}; convert it before")
    if not text.isprintable() and (bad := _UNSENDABLE.search(text)):
        wrong(field, f"has the forbidden character U+{ord(bad[0]):04X} at position {bad.start() + 1}; remove it")
    return text


def check_name(field: str, value: object) -> str:
    """Return what names a thing that is there, as text; raise `InvalidUpdateError` for what cannot name one."""
    if type(value) is str and value.isprintable() and value and not value.isspace():  # nearly every id
        return value
    text = _text(field, value)
    if not text or text.isspace():
        wrong(field, "is empty; give it")
    if not text.isprintable() and (bad := _BREAKS.search(text)):
        wrong(field, f"has the forbidden character U+{ord(bad[0]):04X} at position {bad.start() + 1}; remove it")
    return text


def _id(field: str, value: object) -> str:
    text = check_name(field, value)
    if text[0].isspace() or text[-1].isspace():
        wrong(field, "has a blank at an end, which XML does not keep; remove it")
    return text


def check_external_id(value: object) -> str:
    """Return the id of what is to be imported, as text; raise `InvalidUpdateError`."""
    return _id("external_id", value)


def _take_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError  # noqa: TRY004 - it is caught, and the value kept
    if isinstance(value, float):
        return plain_decimal(value)
    return value if isinstance(value, str) else repr(value)


def text_up_to(longest: int) -> dict[str, Form]:
    """Return the form of a text of at most so many characters."""

    def check(field: str, value: object) -> str:
        text = _text(field, value)
        if len(text) > longest:
            wrong(field, f"has {len(text)} characters, and at most {longest} are allowed; shorten it")
        return text

    return _as(check, _take_text, "")


TEXT: Final = _as(_text, _take_text, "")
"""Any text; whole numbers become text."""
ID: Final = _as(_id, _take_text, "")
"""A text in one line, without blanks at its ends, that is not empty."""


def _key(field: str, value: object) -> int | str:
    return value if type(value) is int else _id(field, value)


def _take_key(value: object) -> int | str:
    return value if type(value) is int else _take_text(value)


KEY: Final = _as(_key, _take_key, "")
"""An id that is a number or a text, kept as it is."""

# -- amounts and numbers

_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLS: Final = {"true": True, "false": False}


def _money(field: str, value: object) -> str:
    if type(value) is str and _AMOUNT.fullmatch(value):  # nearly every amount
        return value
    if isinstance(value, float):
        wrong(field, "is a float, which cannot hold every amount; give a text like '199.90', or a Decimal")
    if isinstance(value, Decimal):
        value = format(value, "f")
    text = _text(field, value)
    if not _AMOUNT.fullmatch(text):
        wrong(field, "is no amount; write digits with a point, like '199.90'")
    return text


def _whole(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        wrong(field, f"must be a whole number, not {_kind(value)}; convert it before")
    return int(value)


def _take_whole(value: object) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise ValueError


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        wrong(field, f"must be True or False, not {_kind(value)}")
    return value


def _take_flag(value: object) -> bool:
    found = value if isinstance(value, bool) else _BOOLS.get(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return found


MONEY: Final = _as(_money, _take_text, "")
"""An amount as decimal text, of any number of digits, kept as it is; whole numbers and Decimals become text."""
WHOLE: Final = _as(_whole, _take_whole, 0)
"""A whole number."""
FLAG: Final = _as(_flag, _take_flag, empty=False)
"""True or False."""

# -- times

_TIME = re.compile(
    r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


def _time(field: str, value: object) -> str:
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            wrong(field, "is a datetime without a time zone; give it one, or write the text")
        in_utc = value.astimezone(dt.UTC)
        return in_utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{in_utc.microsecond // 1000:03}Z"
    if isinstance(value, dt.date):
        return value.isoformat()
    text = _text(field, value)
    if not _TIME.fullmatch(text):
        forms = "2006-01-25, 2006-01-25 15:04:05 or 2022-01-02T15:04:05.141Z"
        wrong(field, f"is no time; write it like {forms}")
    try:
        dt.date.fromisoformat(text[:10])
    except ValueError:
        wrong(field, f"is no day of the calendar: {text[:10]}")
    return text


TIME: Final = _as(_time, _take_text, "")
"""A time in one of the documented forms, kept as it is; a date, or a datetime with a time zone, becomes text."""

# -- anything, and what is made of the others


def _any(field: str, value: object) -> JSON:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            wrong(field, "is not a number that JSON can carry")
        return value
    if isinstance(value, str):
        return _text(field, value)
    if isinstance(value, Mapping):
        return _fields(field, value)
    if isinstance(value, list | tuple):
        return [_any(f"{field}[{place}]", item) for place, item in enumerate(value)]
    return wrong(field, f"must be of JSON's plain types, not {_kind(value)}; convert it before")


def _fields(field: str, value: object) -> dict[str, JSON]:
    if not isinstance(value, Mapping):
        wrong(field, f"must be a mapping, not {_kind(value)}")
    return {_id(f"a name in {field}", name): _any(f"{field}.{name}", item) for name, item in value.items()}


def _take_fields(value: object) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - it is caught, and the value kept
    return value


ANY: Final = _as(_any, _same, None)
"""Whatever JSON can carry."""
FIELDS: Final = _as(_fields, _take_fields, {})
"""Names with whatever JSON can carry."""


def one(kind: type[Value]) -> dict[str, Form]:
    """Return the form of one value of another class; it may be given as a mapping."""

    def check(field: str, value: object) -> Value:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            wrong(field, f"must be a {kind.__name__} or a mapping, not {_kind(value)}")
        try:
            return kind.from_dict(value)
        except InvalidUpdateError as error:
            inner = error
        msg = f"{field}.{inner.message}"
        raise InvalidUpdateError(msg, field=f"{field}.{inner.field}")

    def take(value: object) -> Value:
        return kind.from_answer(_take_fields(value))

    return {"form": Form(check, take, kind.to_dict, None)}


def many(item: Mapping[str, Form]) -> dict[str, Form]:
    """Return the form of an array; of one that is required an entry must be there."""
    form = item["form"]

    def check(field: str, value: object) -> tuple[object, ...]:
        if isinstance(value, str | bytes | Mapping | Value) or not isinstance(value, Iterable):
            wrong(field, f"must be a list, not {_kind(value)}")
        return tuple(form.check(f"{field}[{place}]", entry) for place, entry in enumerate(value))

    def take(value: object) -> tuple[object, ...]:
        # an array of XML that stands alone looks like its entry, and an empty entry like nothing
        entries = value if isinstance(value, list) else [value]
        return tuple(form.take(entry) for entry in entries if entry is not None and entry != "")

    def write(value: tuple[object, ...]) -> list[JSON]:
        return [form.write(entry) for entry in value]

    return {"form": Form(check, take, write, ())}


# -- values


@attrs.frozen(eq=False)
class _Field:
    """One field of a class of values: `default` is what it holds where nothing was given, `unwritten` says nothing."""

    form: Form
    required: bool
    default: object
    unwritten: tuple[object, ...]
    put: Callable[[object, object], None]


def _own(empty: object) -> object:
    """Return what stands for nothing, a mapping of its own for each value: callers may write into it."""
    return {} if empty == {} else empty


def _checked(name: str, form: Form, value: object, *, required: bool) -> object:
    checked = form.check(name, value)
    if checked == () and required:
        wrong(name, "must have at least one entry")
    return checked


def _extra(given: Mapping[str, JSON]) -> Mapping[str, JSON]:
    return _fields("extra", given) if given else {}


@attrs.frozen(kw_only=True)
class Value:
    """The base of all values of the Market.

    `extra` holds the fields of an answer that its class does not know, and values that did not fit their field; it is
    written beside the known fields, so that nothing is lost on the way. A caller may put fields of the platform there
    that have no name here.
    """

    extra: Mapping[str, JSON] = attrs.field(factory=dict, converter=_extra, repr=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self:
        """Make the value of a mapping with the platform's names; inner values may be mappings too.

        A name that the class does not know goes into ``extra``. A missing or wrong field raises `InvalidUpdateError`,
        which names it.
        """
        if not isinstance(data, Mapping):
            msg = f"{cls.__name__} is made of a mapping, not of {_kind(data)}"
            raise InvalidUpdateError(msg)
        plan = _plan(cls)
        values: dict[str, object] = {}
        extra: dict[str, JSON] = {}
        for name, value in data.items():
            field = plan.get(name)
            if field is None:
                extra[_id("a field's name", name)] = _any(name, value)
            elif value is not None:
                values[name] = _checked(name, field.form, value, required=field.required)
        made = cls._made(plan, values, extra, strict=True)
        made._check()  # noqa: SLF001 - of the same class
        return made

    @classmethod
    def from_answer(cls, data: Mapping[str, JSON]) -> Self:
        """Make the value of an answer, JSON or XML; it never raises.

        A field that the answer leaves out is None, or empty if the field is required.
        """
        plan = _plan(cls)
        values: dict[str, object] = {}
        extra: dict[str, JSON] = {}
        for name, value in data.items():
            field = plan.get(name)
            if field is None:
                extra[name] = value
            elif value not in _NOTHING or (field.form is ANY["form"] and value is not None):
                try:
                    values[name] = field.form.take(value)
                except ValueError:
                    extra[name] = value
        return cls._made(plan, values, extra, strict=False)

    @classmethod
    def _made(
        cls, plan: Mapping[str, _Field], values: Mapping[str, object], extra: Mapping[str, JSON], *, strict: bool
    ) -> Self:
        """Put the value together past attrs' own way, which looks at every field that is not there."""
        made = object.__new__(cls)
        for name, field in plan.items():
            if name in values:
                field.put(made, values[name])
            elif strict and field.required and field.form is not ANY["form"]:
                wrong(name, "is required and not there")
            else:
                field.put(made, _own(field.default))
        object.__setattr__(made, "extra", extra)
        return made

    def __attrs_post_init__(self) -> None:
        """Check what the fields say together."""
        self._check()

    def _check(self) -> None:
        """Raise `InvalidUpdateError` if fields contradict each other; a class may have something to say."""

    def to_dict(self) -> dict[str, JSON]:
        """Return the value with the platform's names in JSON's plain types, without fields that are None or empty."""
        written: dict[str, JSON] = {}
        for name, field in _plan(type(self)).items():
            value = getattr(self, name)
            if value is not None and value not in field.unwritten:
                written[name] = field.form.write(value)
        written.update(self.extra)
        return written


_NOTHING: Final[tuple[object, ...]] = (None, "", [], {})
"""In XML they are the same: an empty element, or none."""

_PLANS: dict[type[Value], Mapping[str, _Field]] = {}


def _plan(kind: type[Value]) -> Mapping[str, _Field]:
    """Return the fields of a class by name, worked out once."""
    plan = _PLANS.get(kind)
    if plan is None:
        plan = _PLANS[kind] = {
            field.name: _field(kind, field) for field in attrs.fields(kind) if "form" in field.metadata
        }
    return plan


def _field(kind: type[Value], field: attrs.Attribute[object]) -> _Field:
    form: Form = field.metadata["form"]
    required = field.default is attrs.NOTHING
    default = form.empty if required or form.empty in ((), {}) else None
    unwritten: tuple[object, ...] = ((), {}) if not required else ("", ()) if form is not ANY["form"] else ()
    return _Field(form, required, default, unwritten, getattr(kind, field.name).__set__)


def formed(kind: type, fields: list[attrs.Attribute[object]]) -> list[attrs.Attribute[object]]:
    """Have attrs check each field by its form: the ``field_transformer`` of all classes of values."""
    del kind
    return [
        field.evolve(converter=_converter(field.name, field.metadata["form"], required=field.default is attrs.NOTHING))
        if "form" in field.metadata
        else field
        for field in fields
    ]


def _converter(name: str, form: Form, *, required: bool) -> Callable[[object], object]:
    def convert(value: object) -> object:
        if value is None and not required:
            return _own(form.empty) if form.empty in ((), {}) else None
        return _checked(name, form, value, required=required)

    return convert

"""The kinds of values that settings take: what fits, in which words, and how it is read from a text.

A `Kind` is an attrs validator, so a value that was given in Python and one that
was read from an environment, from TOML or from the command line are judged by
the same rule and named in the same words.
"""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import attrs

from altcraft_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = [
    "CODES",
    "DEADLINE",
    "FLAG",
    "LARGEST",
    "NUMBER",
    "PATH",
    "RETRIES",
    "SECONDS",
    "WHOLE",
    "Kind",
    "choice",
    "only",
    "ranges",
    "refusal",
    "shown",
    "text",
]

_LONGEST_SHOWN = 20
"""Characters of a wrong value that a message repeats: a longer one could be the token, put into the wrong place."""

_LARGEST_CODE = 999_999
"""HTTP statuses and error codes lie far below it; a range without a bound would fill the memory."""

LARGEST: Final = 10**12
"""The most that any number may be: more seconds, bytes or rows than there are, and few enough for every library."""

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def shown(value: object) -> str:
    """Write a wrong value for a message: as it was given where it is short, else only its type."""
    text = repr(value)
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"a str of {len(value)} characters" if isinstance(value, str) else _one(type(value))


def _one(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOaeio' else 'a'} {kind.__name__}"


def refusal(name: str, words: str, value: object) -> ConfigurationError:
    """Return the error of a setting `name` whose `value` is not what it must be."""
    if _is_too_large(value):
        words += f", at most {LARGEST:,}"
    return ConfigurationError(f"{name} must be {words}, not {shown(value)}", field=name)


@attrs.frozen(eq=False)
class Kind:
    """A kind of value.

    `words` say what must be given, and `text_words` what must be written where only
    a text can be. `fits` judges a value; `from_text` reads one and raises
    `ValueError` or `LookupError` for what it cannot read. `metavar` stands for the
    value in a command's help. A `listed` kind also takes a list, as TOML has it.
    """

    words: str
    fits: Callable[[object], bool] = attrs.field(repr=False)
    from_text: Callable[[str], object] = attrs.field(default=str, repr=False)
    metavar: str = "TEXT"
    text_words: str = attrs.field(default=attrs.Factory(lambda self: self.words, takes_self=True))
    listed: bool = False

    def __call__(self, instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Judge a field of an attrs class; raises `ConfigurationError`, naming the field."""
        del instance
        self.check(attribute.name, value)

    def check(self, name: str, value: object) -> None:
        """Judge a `value` that was given; raises `ConfigurationError`, naming it."""
        if not self.fits(value):
            raise refusal(name, self.words, value)

    def read(self, value: object, name: str) -> object:
        """Return what `value` means, a text or already one of the kind.

        Raises `ConfigurationError` under `name` for what cannot be read or does not fit.
        """
        read = value
        try:
            if self.listed and isinstance(value, list):
                read = self.from_text(",".join(map(str, value)))
            elif isinstance(value, str):
                read = self.from_text(value.strip())
        except (ValueError, LookupError):
            raise refusal(name, self.text_words, value) from None
        if not self.fits(read):
            raise refusal(name, self.text_words, value)
        return read

    def or_none(self) -> Kind:
        """Return the kind that also takes None, written ``none``."""
        return attrs.evolve(
            self,
            words=f"{self.words}, or None",
            text_words=f"{self.text_words}, or 'none'",
            fits=lambda value: value is None or self.fits(value),
            from_text=lambda text: None if text.lower() == "none" else self.from_text(text),
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 < value <= LARGEST


def _is_zero(value: object) -> bool:
    return type(value) in {int, float} and value == 0


def _is_too_large(value: object) -> bool:
    """Say whether a number, perhaps one that is written as a text, is refused for its size."""
    if isinstance(value, str):
        try:
            value = _seconds(value.strip())
        except ValueError:
            return False
    return isinstance(value, int | float) and LARGEST < value < math.inf


def _seconds(text: str) -> float:
    unit = _UNITS.get(text[-1:])
    return float(text) if unit is None else float(text[:-1]) * unit


def _codes(text: str) -> frozenset[int]:
    """Read ``408,500-599``: numbers and ranges, or ``none``."""
    codes: set[int] = set()
    for part in text.split(",") if text.lower() != "none" else ():
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if not 0 <= low <= high <= _LARGEST_CODE:
            raise ValueError
        codes.update(range(low, high + 1))
    return frozenset(codes)


def ranges(codes: Collection[int]) -> str:
    """Write codes as a text that a setting takes: ``408,500-599``."""
    parts: list[str] = []
    run: list[int] = []
    for code in [*sorted(codes), None]:
        if run and code != run[-1] + 1:
            parts += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run)  # noqa: PLR2004 - two are no range
            run = []
        if code is not None:
            run.append(code)
    return ",".join(parts) or "none"


def _is_codes(value: object) -> bool:
    return isinstance(value, set | frozenset) and all(type(code) is int and code >= 0 for code in value)


NUMBER: Final = Kind("a number above zero", _is_number, float, metavar="N")
SECONDS: Final = Kind("a number above zero", _is_number, _seconds, metavar="TIME")
"""Seconds; a text may have a unit: ``90``, ``90s``, ``15m`` or ``2h``."""
DEADLINE: Final = Kind(
    "a number of seconds, zero or more",
    lambda value: _is_number(value) or _is_zero(value),
    _seconds,
    metavar="TIME",
)
"""Seconds that are left: there may be none any more."""
WHOLE: Final = Kind("a whole number above zero", _is_whole, int, metavar="N")
RETRIES: Final = Kind(
    "a whole number, zero or more",
    lambda value: _is_whole(value) or (type(value) is int and value == 0),
    int,
    metavar="N",
)
FLAG: Final = Kind(
    "True or False",
    lambda value: isinstance(value, bool),
    lambda text: {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()],
    text_words="true or false",
)
CODES: Final = Kind(
    "a set of codes", _is_codes, _codes, metavar="CODES", text_words="codes and ranges, like 408,500-599", listed=True
)
PATH: Final = Kind(
    "the path of a file", lambda value: isinstance(value, str | PurePath) and value != "", metavar="FILE"
)


def choice(*allowed: str) -> Kind:
    """Return the kind of a text that is one of `allowed`."""
    return Kind(" or ".join(map(repr, allowed)), lambda value: isinstance(value, str) and value in allowed)


def text(words: str, metavar: str) -> Kind:
    """Return the kind of any text, of which `words` say what it is."""
    return Kind(words, lambda value: isinstance(value, str) and value != "", metavar=metavar)


def only(kind: type) -> Kind:
    """Return the kind of an object of one class, which no text gives."""
    return Kind(_one(kind), lambda value: isinstance(value, kind))


def check_token(token: str) -> None:
    """Refuse what can be no token with a `ConfigurationError` that does not show it."""
    if not isinstance(token, str) or not token.strip():
        msg = "token is empty; give it, or set ALTCRAFT_TOKEN"
        raise ConfigurationError(msg, field="token")
    if not token.isascii() or not token.isprintable() or " " in token:
        msg = "token has a blank, a control or a non-ASCII character; it was probably copied with something around it"
        raise ConfigurationError(msg, field="token")

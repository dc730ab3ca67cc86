"""A scenario: a TOML file with a sandbox's settings, its orders, and faults over time.

.. code-block:: toml

    faults = "mixed"                    # from the start; a preset, or a table of fields

    [settings]
    port = 8080
    nodes = 2

    [settings.readings]
    page_limit = 100

    [[seed]]
    orders = 100
    lines_per_order = 4

    [[order]]
    external_id = "A-17"
    lines = { first = "new", second = "delivering" }

    [[at]]
    seconds = 5
    faults = { error_503 = 1.0, retry_after = 1 }

    [[at]]
    seconds = 20
    faults = "none"
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox.forms import faults_from
from altcraft_async.sandbox.readings import Readings
from altcraft_async.sandbox.server import Sandbox

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    from altcraft_async.sandbox.faults import Faults

__all__ = ["Scenario"]

_Kind: TypeAlias = "type | tuple[type, ...]"
_NUMBER = (int, float)
_SETTINGS: Final[Mapping[str, _Kind]] = {
    "token": str,
    "host": str,
    "port": int,
    "seed": int,
    "error_style": str,
    "answer_format": str,
    "dedup_request_id": bool,
    "dedup_checksum": bool,
    "dedup_window": _NUMBER,
    "cache_failures": bool,
    "legacy_headers": bool,
    "market_right": bool,
    "tokens": dict,
    "readings": dict,
    "wrong_token_code": int,
    "custom_statuses": list,
    "state_file": str,
    "max_body_bytes": int,
    "nodes": int,
    "repeats": str,
    "admin": str,
    "admin_hosts": list,
    "keep_requests": int,
}
"""The settings of `Sandbox` and what TOML has for each; a state file stands beside the scenario."""
_READINGS: Final = {
    field.name: list if field.name == "currencies" else type(field.default) for field in attrs.fields(Readings)
}


@attrs.frozen(kw_only=True)
class Scenario:
    """What a sandbox is made with, and how its faults change with time.

    `settings` are keywords of `Sandbox`. `seeds` are numbers of orders and of lines of each, `orders` the orders
    that are named, with the keywords of `Sandbox.add_order`. `steps` are seconds since the start, rising, and the
    faults from then on.
    """

    settings: Mapping[str, object] = attrs.field(factory=dict)
    seeds: Sequence[tuple[int, int]] = ()
    orders: Sequence[Mapping[str, object]] = ()
    steps: Sequence[tuple[float, Faults]] = ()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Scenario:
        """Read a file; raises `ConfigurationError`, which names the file and the field, and `OSError`."""
        file = Path(path)
        try:
            document = tomllib.loads(file.read_text("utf-8"))
            return cls.of(document, directory=file.parent)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{path}: is not TOML: {error}"
            raise ConfigurationError(msg, field="scenario") from None
        except ConfigurationError as error:
            msg = f"{path}: {error}"
            raise ConfigurationError(msg, field=error.field) from None

    @classmethod
    def of(cls, document: Mapping[str, object], *, directory: Path | None = None) -> Scenario:
        """Read what stood in a file; a relative `state_file` is taken from `directory`."""
        fields: dict[str, Any] = dict(document)
        _check_keys("", fields, {"faults": (str, dict), "settings": dict, "seed": list, "order": list, "at": list})
        settings = dict(fields.get("settings", {}))
        _check_keys("settings.", settings, _SETTINGS)
        if "readings" in settings:
            _check_keys("settings.readings.", settings["readings"], _READINGS)
            settings["readings"] = Readings(**settings["readings"])
        if "state_file" in settings and directory is not None:
            settings["state_file"] = directory / settings["state_file"]
        if "faults" in fields:
            settings["faults"] = faults_from(fields["faults"])
        steps = [_step(f"at[{place}]", one) for place, one in enumerate(fields.get("at", ()))]
        if [seconds for seconds, _ in steps] != sorted(seconds for seconds, _ in steps):
            _refuse("at", "in the order of their seconds")
        return cls(
            settings=settings,
            seeds=[_seed(f"seed[{place}]", one) for place, one in enumerate(fields.get("seed", ()))],
            orders=[_order(f"order[{place}]", one) for place, one in enumerate(fields.get("order", ()))],
            steps=steps,
        )

    def sandbox(self, **settings: object) -> Sandbox:
        """Make the sandbox, with its orders; `settings` go before those of the scenario."""
        sandbox = Sandbox(**{**self.settings, **settings})  # type: ignore[arg-type]
        for orders, lines_per_order in self.seeds:
            sandbox.seed_orders(orders, lines_per_order)
        for order in self.orders:
            sandbox.add_order(**order)  # type: ignore[arg-type]
        return sandbox

    async def play(self, sandbox: Sandbox, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Change the sandbox's faults as time goes by; returns after the last change."""
        passed = 0.0
        for seconds, faults in self.steps:
            await sleep(seconds - passed)
            passed = seconds
            sandbox.faults = faults


def _seed(name: str, given: object) -> tuple[int, int]:
    _check_keys(f"{name}.", given, {"orders": int, "lines_per_order": int}, required=("orders",))
    fields: Mapping[str, int] = given  # type: ignore[assignment]
    if min(fields.values()) < 0:
        _refuse(name, "of numbers from 0 up")
    return fields["orders"], fields.get("lines_per_order", 1)


def _order(name: str, given: object) -> Mapping[str, Any]:
    kinds: dict[str, _Kind] = {"external_id": str, "lines": (dict, list), "status": str, "endpoint": str}
    _check_keys(f"{name}.", given, kinds, required=("external_id", "lines"))
    fields: dict[str, Any] = dict(given)  # type: ignore[call-overload]
    lines = fields["lines"]
    if not all(isinstance(one, str) for one in (*lines, *(lines.values() if isinstance(lines, dict) else ()))):
        _refuse(f"{name}.lines", "of texts")
    return {"order_external_id": fields.pop("external_id"), **fields}


def _step(name: str, given: object) -> tuple[float, Faults]:
    _check_keys(f"{name}.", given, {"seconds": _NUMBER, "faults": (str, dict)}, required=("seconds", "faults"))
    fields: Mapping[str, Any] = given  # type: ignore[assignment]
    if not fields["seconds"] >= 0:
        _refuse(f"{name}.seconds", "from 0 up")
    return fields["seconds"], faults_from(fields["faults"])


def _check_keys(place: str, given: object, kinds: Mapping[str, _Kind], required: Sequence[str] = ()) -> None:
    """Refuse what is no table, a name that is not known or missing, and a value of another kind."""
    if not isinstance(given, Mapping):
        _refuse(place.rstrip("."), "a table")
    for name, value in given.items():
        if name not in kinds:
            msg = f"{place}{name} is not known here; known are {', '.join(kinds)}"
            raise ConfigurationError(msg, field=name)
        kind = kinds[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = " or ".join(_WORDS[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
            _refuse(f"{place}{name}", wanted)
    for name in required:
        if name not in given:
            _refuse(f"{place}{name}", "there")


_WORDS = {
    str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table", list: "an array"
}  # fmt: skip


def _refuse(name: str, wanted: str) -> NoReturn:
    msg = f"{name} must be {wanted}"
    raise ConfigurationError(msg, field=name)

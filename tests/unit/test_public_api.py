"""What is public: listed, importable, documented."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from enum import Enum

import pytest

import altcraft_async

pytestmark = pytest.mark.usefixtures("untraced")

SUBMODULES = [
    "altcraft_async",
    "altcraft_async.blocking",
    "altcraft_async.doctor",
    "altcraft_async.errors",
    "altcraft_async.ingest",
    "altcraft_async.integrations.fastapi",
    "altcraft_async.integrations.opentelemetry",
    "altcraft_async.integrations.prometheus",
    "altcraft_async.integrations.web",
    "altcraft_async.journal",
    "altcraft_async.market",
    "altcraft_async.market.reconcile",
    "altcraft_async.observe",
    "altcraft_async.outbox",
    "altcraft_async.report",
    "altcraft_async.sandbox",
    "altcraft_async.settings",
    "altcraft_async.shards",
    "altcraft_async.values",
]
ALL_MODULES = [
    module.name
    for module in pkgutil.walk_packages(altcraft_async.__path__, "altcraft_async.")
    if not module.name.endswith("__main__")
]
ENGINES = {
    "altcraft_async.integrations.dask": "distributed",
    "altcraft_async.integrations.ray": "ray",
    "altcraft_async.integrations.spark": "pyspark",
}
"""What only runners of shards need."""


def test_the_packages_names_are_sorted_and_unique():
    names = altcraft_async.__all__
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_name_listed_is_there(name):
    module = importlib.import_module(name)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


@pytest.mark.parametrize("name", [*ENGINES, None])
def test_every_module_lists_only_names_that_it_has(name):
    if name in ENGINES:
        pytest.importorskip(ENGINES[name], reason="the session engines has it")
    for module in map(importlib.import_module, [name] if name else [one for one in ALL_MODULES if one not in ENGINES]):
        listed = getattr(module, "__all__", [])
        assert len(set(listed)) == len(listed), module
        assert [public for public in listed if not hasattr(module, public)] == [], module


def test_everything_public_in_the_package_is_listed():
    visible = {
        name for name, value in vars(altcraft_async).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == set(altcraft_async.__all__)


def test_every_error_is_exported_by_the_package():
    from altcraft_async import errors  # noqa: PLC0415

    kinds = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert kinds <= set(altcraft_async.__all__)


def public_of(module: str) -> list[tuple[str, object]]:
    there = importlib.import_module(module)
    return [(f"{module}.{name}", getattr(there, name)) for name in there.__all__]


@pytest.mark.parametrize("module", SUBMODULES)
def test_every_public_name_is_documented(module):
    for name, value in public_of(module):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        text = inspect.getdoc(value) or ""
        assert text, name
        assert text.splitlines()[0].endswith((".", ":", ")", "…)``.")) or "." in text, name
        if inspect.isclass(value) and not issubclass(value, Enum):
            assert not text.startswith(f"{value.__name__}("), f"{name}: an attrs or enum default is no documentation"


@pytest.mark.parametrize("module", SUBMODULES)
def test_every_public_method_is_documented(module):
    for name, value in public_of(module):
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize("module", SUBMODULES)
def test_no_public_signature_says_any(module):
    for name, value in public_of(module):
        for function in vars(value).values() if inspect.isclass(value) else [value]:
            if inspect.isfunction(function) and not function.__name__.startswith("_"):
                shown = " ".join(str(annotation) for annotation in function.__annotations__.values())
                assert not re.search(r"\bAny\b", shown), f"{name}.{function.__name__}: {shown}"


def test_the_package_says_that_it_is_typed():
    import pathlib  # noqa: PLC0415

    assert (pathlib.Path(altcraft_async.__file__).parent / "py.typed").exists()

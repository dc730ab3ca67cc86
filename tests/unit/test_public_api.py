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
PUBLIC = [(name, public) for name in SUBMODULES for public in importlib.import_module(name).__all__]


def test_the_packages_names_are_sorted_and_unique():
    names = altcraft_async.__all__
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_name_listed_is_there(name):
    module = importlib.import_module(name)
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


@pytest.mark.parametrize("name", ALL_MODULES)
def test_every_module_lists_only_names_that_it_has(name):
    if name in ENGINES:
        pytest.importorskip(ENGINES[name], reason="the session engines has it")
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert len(set(listed)) == len(listed)
    assert [public for public in listed if not hasattr(module, public)] == []


def test_everything_public_in_the_package_is_listed():
    visible = {
        name for name, value in vars(altcraft_async).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert visible == set(altcraft_async.__all__)


def test_every_error_is_exported_by_the_package():
    from altcraft_async import errors  # noqa: PLC0415

    kinds = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert kinds <= set(altcraft_async.__all__)


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_is_documented(module, name):
    value = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    text = inspect.getdoc(value) or ""
    assert text
    assert text.splitlines()[0].endswith((".", ":", ")", "…)``.")) or "." in text
    if inspect.isclass(value) and not issubclass(value, Enum):
        assert not text.startswith(f"{name}("), "an attrs or enum default is no documentation"


@pytest.mark.parametrize(("module", "name"), [p for p in PUBLIC if p[1][0].isupper()])
def test_every_public_method_is_documented(module, name):
    value = getattr(importlib.import_module(module), name)
    if not inspect.isclass(value):
        return
    for method, function in vars(value).items():
        if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
            assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_no_public_signature_says_any(module, name):
    value = getattr(importlib.import_module(module), name)
    for function in vars(value).values() if inspect.isclass(value) else [value]:
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            shown = " ".join(str(annotation) for annotation in function.__annotations__.values())
            assert not re.search(r"\bAny\b", shown), f"{name}.{function.__name__}: {shown}"


def test_the_package_says_that_it_is_typed():
    import pathlib  # noqa: PLC0415

    assert (pathlib.Path(altcraft_async.__file__).parent / "py.typed").exists()

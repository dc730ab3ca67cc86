"""The blocking classes are what the generator makes of the asynchronous ones, and leave nothing out."""

from __future__ import annotations

import ast
import inspect

import pytest

import altcraft_async
from altcraft_async import blocking, market
from generate_blocking import NOT_FOR_CALLERS, TARGET, generated

RENAMED = {"aclose": "close"}


def test_the_committed_file_is_what_the_generator_makes():
    assert ast.dump(ast.parse(TARGET.read_text())) == ast.dump(ast.parse(generated())), (
        "the asynchronous classes have changed: python tests/generate_blocking.py"
    )


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", ["AltcraftClient", "Orders", "Products", "Skus", "Listing"])
def test_nothing_public_is_left_out_and_nothing_is_added(name):
    origin = altcraft_async.AltcraftClient if name == "AltcraftClient" else getattr(market, name)
    expected = {RENAMED.get(one, one) for one in public(origin)} - NOT_FOR_CALLERS
    assert public(getattr(blocking, name)) == expected


@pytest.mark.parametrize("name", ["AltcraftClient", "Orders", "Products", "Skus"])
def test_parameters_and_defaults_are_those_of_the_asynchronous_methods(name):
    origin = altcraft_async.AltcraftClient if name == "AltcraftClient" else getattr(market, name)
    for method in public(getattr(blocking, name)) - {"close", "with_raw_response"}:
        ours, theirs = getattr(getattr(blocking, name), method), getattr(origin, method)
        if callable(ours):
            for mine, other in zip(
                inspect.signature(ours).parameters.values(), inspect.signature(theirs).parameters.values(), strict=True
            ):
                assert (mine.name, mine.kind, mine.default) == (other.name, other.kind, other.default)


def test_nothing_asynchronous_is_left_in_the_signatures():
    text = TARGET.read_text()
    assert "async def" not in text
    assert "await" not in text
    assert "AsyncIterable" not in text
    assert "AsyncGenerator" not in text

"""Numbers of the command line have bounds, so that one which is too long is a mistake of its option's."""

from __future__ import annotations

import click
import pytest

from altcraft_async.cli.app import cli
from altcraft_async.cli.examples import commands_of

PARAMETERS = {" ".join((*path, param.opts[0])): param for path, command in commands_of(cli) for param in command.params}


def test_every_number_has_a_bound():
    ranges = {
        name: param
        for name, param in PARAMETERS.items()
        if isinstance(param.type, click.IntRange | click.FloatRange) and not getattr(param, "count", False)
    }
    assert ranges
    assert [name for name, param in ranges.items() if param.type.max is None] == []
    whole = [name for name, param in PARAMETERS.items() if param.type is click.INT]
    assert [name for name in whole if not name.endswith(("--seed", "--id", "--group-id", "--since"))] == []


@pytest.mark.parametrize(
    "name",
    ["sync --sample", "sync --skip-lines", "orders list --limit", "orders import --batch-size", "outbox retry ids",
     "shards run --processes", "sandbox --keep-requests"],
)  # fmt: skip
@pytest.mark.parametrize("value", ["9" * 21, "-1"])
def test_a_number_beyond_its_bounds_is_a_mistake_of_its_option(name, value):
    param = PARAMETERS[name]
    with pytest.raises(click.BadParameter, match="between"):
        param.type.convert(value, param, None)

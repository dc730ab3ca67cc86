"""A pytest plugin: the fixture ``altcraft_sandbox``, an Altcraft to run against in each test.

.. code-block:: python

    import pytest
    from shop import push_statuses  # your own code


    @pytest.mark.altcraft_sandbox(error_style="http4xx", seed=7)  # only where a test needs settings
    def test_pushes_statuses(altcraft_sandbox):
        altcraft_sandbox.seed_orders(3)
        push_statuses(altcraft_sandbox.base_url, altcraft_sandbox.token)
        assert altcraft_sandbox.line_status("order_1", "line_1_1") == "delivered"

The sandbox runs on a thread of its own, so the fixture serves synchronous tests
and tests of any async plugin alike. The marker takes the settings of
`altcraft_async.sandbox.Sandbox`; of several markers the closest wins, setting by
setting. Nothing of the sandbox is imported before a test asks for the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from altcraft_async.sandbox import ThreadedSandbox

__all__ = ["altcraft_sandbox", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers", "altcraft_sandbox(**settings): settings of the Sandbox behind the fixture altcraft_sandbox"
    )


@pytest.fixture
def altcraft_sandbox(request: pytest.FixtureRequest) -> Iterator[ThreadedSandbox]:
    """Run a fresh sandbox for one test, with the settings of its markers."""
    from altcraft_async.sandbox import ThreadedSandbox  # noqa: PLC0415 - keeps pytest's start free of aiohttp

    settings: dict[str, object] = {}
    for marker in request.node.iter_markers("altcraft_sandbox"):
        if marker.args:
            message = "the marker altcraft_sandbox takes keyword settings only, for example seed=7"
            raise pytest.UsageError(message)
        settings = {**marker.kwargs, **settings}
    with ThreadedSandbox(**settings) as sandbox:
        yield sandbox

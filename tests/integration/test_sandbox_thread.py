"""The sandbox for synchronous code, and the pytest fixture made of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import Faults, ThreadedSandbox

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]


def update(sandbox: ThreadedSandbox, status: str = "delivered") -> int:
    fields = {
        "token": sandbox.token,
        "order_external_id": "order_1",
        "order_line_external_id": "line_1_1",
        "status_external_id": status,
    }
    request = urllib.request.Request(
        f"{sandbox.base_url}/api/v1.1/market/orders/update_order_line_status",
        data=json.dumps(fields).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        return int(json.load(response)["error"])


def test_synchronous_code_can_run_against_it() -> None:
    with ThreadedSandbox() as sandbox:
        assert sandbox.seed_orders(1) == [("order_1", "line_1_1")]
        assert update(sandbox) == 0
        assert sandbox.line_status("order_1", "line_1_1") == "delivered"
        assert sandbox.order_status("order_1") == "new"
        assert sandbox.check([("order_1", "line_1_1", "delivered")]).ok
        assert sandbox.ledger.requests == 1
        assert sandbox.token not in repr(sandbox)


def test_faults_can_be_assigned_from_another_thread() -> None:
    with ThreadedSandbox() as sandbox:
        sandbox.add_order("order_1", ["line_1_1"])
        sandbox.faults = Faults(error_503=1.0)
        assert sandbox.faults.error_503 == 1.0
        with pytest.raises(urllib.error.HTTPError) as caught:
            update(sandbox)
        caught.value.close()
        assert caught.value.code == 503


def test_its_thread_ends_with_it() -> None:
    before = threading.active_count()
    with ThreadedSandbox():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_setting_that_cannot_work_is_raised_to_the_caller() -> None:
    before = threading.active_count()
    with pytest.raises(ConfigurationError), ThreadedSandbox(error_style="loud"):
        pytest.fail("it started")
    assert threading.active_count() == before


def test_use_before_the_start_is_one_clear_error() -> None:
    with pytest.raises(RuntimeError, match="use it inside `with`"):
        ThreadedSandbox().seed_orders(1)


def run_pytest(pytester: pytest.Pytester, code: str, *arguments: str) -> pytest.RunResult:
    """Run pytest on `code` in a process of its own, with no other plugin than ours."""
    pytester.makepyfile(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("PYTHONPATH", ":".join(sys.path))
        return pytester.runpytest_subprocess("-p", "altcraft_async.integrations.pytest_plugin", *arguments)


@pytest.mark.processes
def test_the_fixture_gives_each_test_a_fresh_sandbox_set_up_by_the_closest_marker(pytester: pytest.Pytester) -> None:
    result = run_pytest(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.altcraft_sandbox(token="far", custom_statuses=["packed"])

        @pytest.mark.parametrize("run", [1, 2])
        def test_fresh(altcraft_sandbox, run):
            assert repr(altcraft_sandbox).count(" 0 orders")
            altcraft_sandbox.seed_orders(3)
            assert altcraft_sandbox.base_url.startswith("http://127.0.0.1:")

        @pytest.mark.altcraft_sandbox(token="near")
        def test_settings(altcraft_sandbox):
            assert altcraft_sandbox.token == "near"
            altcraft_sandbox.add_order("a", {"b": "packed"})
        """,
        "--strict-markers",
    )
    result.assert_outcomes(passed=3)


@pytest.mark.processes
def test_the_marker_is_documented(pytester: pytest.Pytester) -> None:
    result = run_pytest(pytester, "", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.altcraft_sandbox(*settings of the Sandbox*"])


@pytest.mark.processes
def test_the_plugin_does_not_import_the_server(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import altcraft_async, pytest; known = set(sys.modules)\n"
        "import altcraft_async.integrations.pytest_plugin\n"
        "new = set(sys.modules) - known\n"
        "assert not [name for name in new if name.startswith(('aiohttp', 'altcraft_async.sandbox'))], new\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr

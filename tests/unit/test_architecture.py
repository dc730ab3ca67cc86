"""The house keeps its floors: who may import what, and each third-party library in one room."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import altcraft_async

pytestmark = pytest.mark.usefixtures("untraced")

ROOT = Path(altcraft_async.__file__).parent
NAME = "altcraft_async"

FORBIDDEN_IN_PURE_CODE = {
    "asyncio",
    "aiohttp", "click", "logging", "multiprocessing", "os", "random", "requests", "rich", "socket", "sqlite3",
    "subprocess", "tenacity", "threading", "time",
}  # fmt: skip

FLOORS = (
    ("errors",),
    ("kinds",),
    ("protocol.plain", "protocol.states", "protocol.values"),
    (
        "protocol.verdict",
        "protocol.charset",
        "protocol.json",
        "protocol.methods",
        "protocol.retry_after",
        "protocol.xml",
    ),
    ("protocol", "values"),
    ("timeline",),
    ("report",),
    ("outcome",),
    ("flow",),
    ("settings", "observe", "storage"),
    ("engine.work",),
    ("engine.connections",),
    ("engine.mapping",),
    ("engine.direct", "engine.carrier", "engine.batches"),
    (
        "engine.transport",
        "engine.wire_log",
        "engine.credentials",
        "engine.tls",
        "engine.group",
        "engine.gate",
        "engine.recorder",
        "engine.rows",
        "engine.notifier",
        "engine.history",
    ),
    ("engine.delivery",),
    ("engine",),
    ("journal",),
    ("market",),
    ("client",),
    ("",),
    ("blocking", "doctor", "ingest", "outbox"),
    ("shards",),
    ("integrations",),
    ("cli", "__main__"),
)
"""From the ground up; the longest name that fits counts, and the package itself (``""``) only hands names on."""

OWNERS = {
    "aiohttp": ("engine.connections", "engine.mapping", "engine.direct", "engine.transport", "sandbox"),
    "yarl": ("engine.direct", "engine.transport"),
    "tenacity": ("engine.delivery",),
    "xmltodict": ("protocol.xml", "sandbox.reading"),
    "orjson": ("protocol.json",),
    "sqlite3": ("storage.sqlite",),
    "psycopg": ("storage.postgres",),
    "sqlalchemy": ("outbox.transaction",),
    "click": ("cli",),
    "rich": ("cli",),
    "openpyxl": ("ingest.excel",),
    "ziaplot": ("report.pictures", "report.page"),
    "jinja2": ("report.page",),
    "markupsafe": ("report.page",),
    "fsspec": ("outcome", "storage.places"),
    "pyarrow": ("outcome", "storage.columns", "integrations.spark"),
    "pytest": ("integrations.pytest_plugin",),
    "fastapi": ("integrations.fastapi",),
    "opentelemetry": ("integrations.opentelemetry",),
    "prometheus_client": ("integrations.prometheus",),
    "distributed": ("integrations.dask",),
    "ray": ("integrations.ray",),
    "pyspark": ("integrations.spark",),
}
CORE = {"aiohttp", "attrs", "tenacity", "xmltodict", "yarl", "multidict"}
OPTIONAL = {"pandas", "polars", "uvloop"} | OWNERS.keys()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


class Imports(ast.NodeVisitor):
    """Collects what a module imports at run time, and what it does so at its own import."""

    def __init__(self) -> None:
        self.runtime: set[str] = set()
        self.at_import: set[str] = set()
        self._inside = 0

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        for statement in node.orelse:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside += 1
        self.generic_visit(node)
        self._inside -= 1

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        source = node.module or ""
        if source.split(".")[0] != NAME:
            self._note(source)
            return
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            self._note(inner if inner.removeprefix(NAME + ".") in FILES else source)

    def _note(self, name: str) -> None:
        self.runtime.add(name)
        if not self._inside:
            self.at_import.add(name)


@cache
def imports_of(module: str) -> Imports:
    found = Imports()
    found.visit(ast.parse(FILES[module].read_text()))
    return found


def own(names: set[str]) -> set[str]:
    return {name.removeprefix(NAME).removeprefix(".") for name in names if name.split(".")[0] == NAME}


def foreign(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {NAME}


def within(module: str, rooms: tuple[str, ...] | str) -> bool:
    rooms = (rooms,) if isinstance(rooms, str) else rooms
    return any(module == room or (room and module.startswith(room + ".")) for room in rooms)


def floor_of(module: str) -> int:
    best = max(
        ((len(room), floor) for floor, rooms in enumerate(FLOORS) for room in rooms if within(module, room)),
        default=None,
    )
    assert best is not None, f"{module} stands on no floor: give it one"
    return best[1]


def modules(*rooms: str) -> list[str]:
    return [module for module in FILES if within(module, rooms)]


def test_a_module_imports_from_its_own_floor_or_below():
    for module in FILES.keys() - set(modules("sandbox")):
        for imported in own(imports_of(module).runtime):
            if within(imported, "sandbox"):
                assert within(module, ("cli", "integrations")), f"{module} imports {imported}"
            else:
                assert floor_of(imported) <= floor_of(module), f"{module} imports {imported}, which stands above it"


def imported_by(module: str, *rooms: str) -> set[str]:
    return {imported for imported in own(imports_of(module).runtime) if within(imported, rooms)}


def test_pure_modules_know_no_io_no_clock_and_no_chance():
    for module in modules("protocol", "flow", "errors", "kinds", "outcome", "report", "timeline", "settings"):
        assert not foreign(imports_of(module).runtime) & FORBIDDEN_IN_PURE_CODE, module


def test_protocol_does_not_know_flow():
    assert [module for module in modules("protocol") if imported_by(module, "flow")] == []


def test_flow_knows_nothing_of_the_protocol_but_verdicts_and_states():
    for module in modules("flow"):
        assert imported_by(module, "protocol") <= {"protocol.verdict", "protocol.states"}, module


def test_each_library_has_one_owner():
    for module in FILES:
        for library in foreign(imports_of(module).runtime) & OWNERS.keys():
            allowed = within(module, OWNERS[library]) or (library == "aiohttp" and within(module, "integrations"))
            assert allowed, f"{module} imports {library}, which belongs to {', '.join(OWNERS[library])}"


def test_nothing_else_is_imported_than_the_standard_library_and_what_is_declared():
    for module in FILES:
        assert foreign(imports_of(module).runtime) <= sys.stdlib_module_names | {"attrs"} | CORE | OPTIONAL, module


def test_the_sandbox_shares_only_errors_and_status_names():
    for module in modules("sandbox"):
        known = {name for name in own(imports_of(module).runtime) if not within(name, "sandbox")}
        assert known <= {"errors", "protocol.values"}, module


def test_the_core_does_not_know_its_users():
    above = ("blocking", "cli", "sandbox", "doctor", "ingest", "integrations", "journal.reader", "outbox")
    core = [*modules("engine", "market"), "client", "observe", ""]
    assert [module for module in core if imported_by(module, *above)] == []


def test_the_command_line_talks_to_the_public_api_only():
    assert [module for module in modules("cli") if imported_by(module, "engine", "flow", "protocol", "market")] == []


def test_every_import_can_be_seen_without_running_the_code():
    # what packs programs into one file finds only what stands in import statements
    for module, path in FILES.items():
        text = path.read_text()
        # what `cli.descriptors` names is imported by statements elsewhere: it only does so earlier
        assert "import_module" not in text or module == "cli.descriptors", module
        assert "__import__" not in text, module


def test_a_packed_program_has_both_codecs():
    found = {module for wanted in ("",) for module in reachable_from(wanted)}
    assert {"protocol.json", "protocol.xml"} <= found


def reachable_from(module: str) -> set[str]:
    found: set[str] = set()
    left = {module}
    while left:
        found |= left
        left = {name for module in left for name in own(imports_of(module).runtime) if name in FILES} - found
    return found


def test_there_are_no_import_cycles():
    graph = {module: own(imports_of(module).runtime) - {module} for module in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, naming the cycle


def test_a_cycle_would_be_found():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_importing_the_package_imports_nothing_that_is_not_needed_yet():
    code = (
        "import sys; before = set(sys.modules); import altcraft_async; "
        "heavy = {'aiohttp', 'tenacity', 'xmltodict', 'sqlite3', 'psycopg', 'click', 'rich', 'tomllib', 'jinja2', "
        "'ziaplot', 'altcraft_async.sandbox', 'altcraft_async.report', 'altcraft_async.engine.core'}; "
        "print(*sorted(heavy & (sys.modules.keys() - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert run.stdout.strip() == ""


def test_every_module_has_a_docstring_and_says_what_is_public():
    for module in [module for module in FILES if not module.endswith("__main__")]:
        tree = ast.parse(FILES[module].read_text())
        assert ast.get_docstring(tree), f"{module} has no docstring"
        has_code = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        assigned = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
        names = {name.id for targets in assigned for name in targets if isinstance(name, ast.Name)}
        assert not has_code or "__all__" in names, f"{module} has no __all__"


def test_no_module_is_longer_than_is_good_for_it():
    assert [module for module, path in FILES.items() if len(path.read_text().splitlines()) > 700] == []

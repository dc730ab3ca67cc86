"""Each piece of Python in the documents stands alone: it imports what it uses, and what it imports is there."""

from __future__ import annotations

import ast
import re

import pytest
from snippets import ROOT, snippets

YOURS = {
    "altcraft", "change_of_my_own", "changes", "connection", "day", "directory",
    "engine", "folder", "kept_in_your_database", "line", "message_id", "order", "outbox", "push_statuses",
    "status", "store", "transaction", "update", "updates",
}  # fmt: skip
"""Names that stand for what the reader has: the own service, its database, its change."""

EVERY = list(snippets())


def test_what_is_generated_stands_in_the_page_for_who_reads_it_as_markdown():
    pages = [page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"\{generated\} (.+)\n(.*)\n(.*)\n", text)
    assert len(blocks) > 50
    assert [name for name, blank, first in blocks if blank or not first] == []


def test_there_are_snippets():
    assert len(EVERY) > 50


@pytest.mark.parametrize("snippet", EVERY, ids=str)
def test_a_snippet_imports_what_it_uses(snippet):
    assert snippet.unknown_names() <= YOURS


@pytest.mark.parametrize("snippet", EVERY, ids=str)
def test_a_snippet_uses_what_it_imports(snippet):
    nodes = list(ast.walk(snippet.tree))
    names = {node.asname or node.name.partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
    assert names - {"annotations"} <= {node.id for node in nodes if isinstance(node, ast.Name)}


@pytest.mark.parametrize("snippet", EVERY, ids=str)
def test_what_a_snippet_imports_is_there(snippet, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")  # the services of the pages
    imports = [node for node in ast.walk(snippet.tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
        module = node.names[0].name if isinstance(node, ast.Import) else node.module
        if isinstance(module, str) and not module.startswith("altcraft_async"):
            pytest.importorskip(module)
    exec(compile(ast.Module(imports, []), str(snippet), "exec"), {})

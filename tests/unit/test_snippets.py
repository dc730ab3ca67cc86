"""Each piece of Python in the documents stands alone: it imports what it uses, and what it imports is there."""

from __future__ import annotations

import ast

import pytest
from snippets import snippets

YOURS = {
    "BASE_URL", "altcraft", "app", "base_url", "change_of_my_own", "changes", "connection", "day", "directory",
    "engine", "folder", "kept_in_your_database", "line", "message_id", "order", "outbox", "push_statuses",
    "read_token", "status", "store", "token", "transaction", "update", "updates", "url",
}  # fmt: skip
"""Names that stand for what the reader has: the own service, its database, its change."""

EVERY = list(snippets())


def test_there_are_snippets():
    assert len(EVERY) > 50


@pytest.mark.parametrize("snippet", EVERY, ids=str)
def test_a_snippet_imports_what_it_uses(snippet):
    assert snippet.unknown_names() <= YOURS


@pytest.mark.parametrize("snippet", EVERY, ids=str)
def test_what_a_snippet_imports_is_there(snippet):
    imports = [node for node in ast.walk(snippet.tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in imports:
        module = node.names[0].name if isinstance(node, ast.Import) else node.module
        if isinstance(module, str) and not module.startswith("altcraft_async"):
            pytest.importorskip(module)
    exec(compile(ast.Module(imports, []), str(snippet), "exec"), {})

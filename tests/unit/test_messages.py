"""The page of error messages has the words that the library says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import altcraft_async

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "messages.md"
pytestmark = [
    pytest.mark.usefixtures("untraced"),
    pytest.mark.skipif(not PAGE.exists(), reason="the documents are not here"),
]


def texts() -> str:
    """What stands in texts of the code, names in them as ``…``; no docstrings."""
    found = []
    for path in Path(altcraft_async.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                found.append(node.value)
    return "\n".join(found)


def test_every_message_of_the_page_is_one():
    quoted = re.findall(r"^\| `([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) > 20
    known = texts()
    assert [words for words in quoted if words not in known] == []

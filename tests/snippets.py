"""The pieces of Python in the documents, as someone would copy them: one at a time."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Snippet", "snippets"]

ROOT = Path(__file__).parents[1]
_FENCED = re.compile(r"^```(?:python|\{testcode\})\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HIDDEN = re.compile(r"^:hide:\n", re.MULTILINE)


@attrs.frozen
class Snippet:
    """A piece of Python in a page, and the line where it begins."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        """Give its place."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def tree(self) -> ast.Module:
        """What it says; it may await at its top, as a notebook does."""
        return compile(self.text, str(self), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    def unknown_names(self) -> set[str]:
        """Return the names that it uses and neither makes nor imports."""
        known = set(dir(builtins)) | {"__name__", "__file__"}
        used = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name, ctx=ast.Load()):
                    used.add(name)
                case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                    known.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    known.add(name)
                case ast.alias(name=name, asname=alias):
                    known.add(alias or name.partition(".")[0])
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    known.add(name)
                case _:
                    pass
        return used - known


def snippets() -> Iterator[Snippet]:
    """Give each that a page shows."""
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        if "_build" in page.parts:
            continue
        text = page.read_text(encoding="utf-8")
        for found in _FENCED.finditer(text):
            if not _HIDDEN.match(found[1]):
                line = text.count("\n", 0, found.start()) + 2
                yield Snippet(page, line, textwrap.dedent(found[1]))

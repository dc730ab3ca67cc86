"""Write what is generated into the pages, for who reads them as Markdown: ``python docs/fill_tables.py``.

The site makes its tables anew. With ``--check`` nothing is written, and the exit code is 1 where a page is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

from generated import CONTENTS  # noqa: E402 - beside this file

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^(?P<fence>```|:::)\{generated\} (?P<name>.+)\n(?:.*\n)*?(?P=fence)$", re.MULTILINE)


def markdown(node: nodes.Node) -> str:
    """Write a table, a list, a paragraph or the text of a command as Markdown."""
    if isinstance(node, nodes.table):
        rows = ["| " + " | ".join(map(_inline, row.children)) + " |" for row in node.findall(nodes.row)]
        rows.insert(1, "|" + "---|" * len(next(iter(node.findall(nodes.row))).children))
        return "\n".join(rows)
    if isinstance(node, nodes.bullet_list):
        return "\n".join(_items(node))
    if isinstance(node, nodes.literal_block):
        return f"```text\n{node.astext()}\n```"
    if isinstance(node, nodes.paragraph):
        return _inline(node)
    msg = f"no Markdown is known for {type(node).__name__}"
    raise TypeError(msg)


def _items(found: nodes.Node, indent: str = "") -> Iterator[str]:
    for item in found.children:
        for part in item.children:
            if isinstance(part, nodes.bullet_list):
                yield from _items(part, indent + "  ")
            else:
                yield f"{indent}- {_inline(part)}"


def _inline(node: nodes.Node) -> str:
    if isinstance(node, nodes.literal):
        return f"`{node.astext()}`".replace("|", r"\|")
    if isinstance(node, nodes.Text):
        return re.sub(r"([|*<\[])", r"\\\1", " ".join(node.astext().split("\n")))
    return "".join(map(_inline, node.children))


def filled(text: str) -> str:
    """Return a page with all that is generated in its place."""

    def block(found: re.Match[str]) -> str:
        return f":::{{generated}} {found['name']}\n\n{markdown(CONTENTS[found['name']]())}\n\n:::"

    return _BLOCK.sub(block, text)


def main() -> int:
    """Fill the pages, or say which are out of date."""
    stale = []
    for page in sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(page)
    if "--check" in sys.argv:
        print("\n".join(f"{page}: run python docs/fill_tables.py" for page in stale) or "Nothing to say.")  # noqa: T201
        return bool(stale)
    for page in stale:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

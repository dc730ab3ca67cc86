"""The documents as Markdown, before they are built; ``tests/documents`` has the built pages."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENTS = Path(__file__).parents[2] / "docs"


def test_what_is_generated_stands_in_the_page_for_who_reads_it_as_markdown():
    pages = [page for page in DOCUMENTS.rglob("*.md") if "_build" not in page.parts]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    blocks = re.findall(r"\{generated\} (.+)\n(.*)\n(.*)\n", text)
    assert len(blocks) > 50
    assert [name for name, blank, first in blocks if blank or not first] == []

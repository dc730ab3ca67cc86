"""Writes ``llms.txt`` beside the built pages: what the library is, and each page with its first sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SECTIONS = {"": "Start", "howto": "How-to guides", "reference": "Reference", "explanation": "Explanation"}
_LONGEST = 200


def setup(app: Sphinx) -> dict[str, bool]:
    """Let it be written when the pages are."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}


def _write(app: Sphinx, failure: Exception | None) -> None:
    if failure is not None or app.builder.format != "html":
        return
    sections: dict[str, list[str]] = {name: [] for name in _SECTIONS}
    for page in sorted(app.env.found_docs):
        room = page.rpartition("/")[0]
        if room in sections and page != "index" and not page.endswith("/index"):
            tree = app.env.get_doctree(page)
            title = app.env.titles[page].astext()
            sections[room].append(f"- [{title}]({page}.html): {_first_sentence(tree)}")
    promise = _first_sentence(app.env.get_doctree("index"))
    parts = [f"# {app.config.project} {app.config.version}", f"> {promise}"]
    parts += [f"## {_SECTIONS[room]}\n\n" + "\n".join(lines) for room, lines in sections.items()]
    (Path(app.outdir) / "llms.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _first_sentence(tree: nodes.document) -> str:
    for paragraph in tree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if text and not isinstance(paragraph.parent, nodes.entry):
            sentence = text.split(". ")[0].rstrip(".:") + "."
            return sentence if len(sentence) <= _LONGEST else sentence[:_LONGEST] + "…"
    return ""

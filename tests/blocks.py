"""The blocks of code in the documents, as somebody copies them: one at a time, out of the built pages or off GitHub."""

from __future__ import annotations

import os
import re
import runpy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from bs4 import BeautifulSoup, SoupStrainer
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUILT", "ROOT", "Block", "blocks", "copied"]

ROOT = Path(__file__).parents[1]
BUILT = Path(os.environ.get("BUILT_DOCUMENTS", ROOT / "docs" / "_build" / "html"))
_HIGHLIGHT = "highlight-"


@attrs.frozen
class Block:
    """A block: the page that shows it, its number there, its language, and the text that is copied."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        """Give its place."""
        return f"{self.page}:{self.number}"

    @property
    def name(self) -> str:
        """Its place, as a name of a module."""
        return re.sub(r"\W", "_", str(self))


def copied(text: str, prompt: str) -> str:
    """Return what sphinx-copybutton copies: where a line begins with the prompt, only such lines, without it."""
    lines = text.splitlines()
    prompted = [found[2] for line in lines if (found := re.match(f"({prompt})(.*)", line))]
    return "\n".join(prompted or lines) + "\n"


def _built() -> Iterator[Block]:
    prompt = runpy.run_path(str(ROOT / "docs" / "conf.py"))["copybutton_prompt_text"]
    frames = SoupStrainer("div", class_=re.compile(f"^{_HIGHLIGHT}"))
    for path in sorted(BUILT.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "html.parser", parse_only=frames)
        found = soup.select("div.highlight pre")  # what the button copies
        page = path.relative_to(BUILT).with_suffix("").as_posix()
        assert len(found) == text.count('<div class="highlight"><pre>'), f"{page}: a block without a language"
        for number, pre in enumerate(found, 1):
            classes = pre.find_parents("div")[1].get_attribute_list("class")
            language = next(one for one in classes if one.startswith(_HIGHLIGHT))
            yield Block(page, number, language.removeprefix(_HIGHLIGHT), copied(pre.get_text(), prompt))


def _on_github() -> Iterator[Block]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("tests/*/*.md")]
    for path in sorted(pages):
        fences = [token for token in MarkdownIt().parse(path.read_text(encoding="utf-8")) if token.type == "fence"]
        for number, token in enumerate(fences, 1):
            yield Block(path.relative_to(ROOT).as_posix(), number, token.info, token.content)


@cache
def _every() -> tuple[Block, ...]:
    return (*_built(), *_on_github())


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages, or all."""
    return [one for one in _every() if not languages or one.language in languages]

"""Look for words that the documents do not use: ``python docs/prose.py``; the glossary has those that they do.

Prints each place, and exits with 1 where there is one. It also says which pictures have no words for those who cannot
see them, and which links between files lead nowhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"told": "say what is reported, or who hears of it",
    r"mend(s|ed|ing)?": "fix, correct",
    r"turn(s|ed)? (\w+ )?away": "throttled",
    r"hopeless": "an outage",
    r"house": "the project",
    r"at (its|their) door": "name the cause",
    r"circuit (open|breaker)": "an outage",
}
EVERYWHERE = [word for word in INSTEAD if word != "told"]
"""In the package too; there, *told* is a short name for arguments."""
_PICTURE = re.compile(
    r"!\[(?P<words>[^\]]*)\]\((?P<target>[^)]+)\)|```\{(?:image|figure)\} (?P<name>\S+)\n(?P<options>(?::.*\n)*)"
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def pages() -> Iterator[Path]:
    """Give the pages that people read."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / ".github").glob("*.md"))
    for room in ("docs", "benchmarks"):
        yield from sorted(page for page in (ROOT / room).rglob("*.md") if "_build" not in page.parts)


def lines_with(text: str, word: str) -> Iterator[int]:
    """Give the numbers of the lines that have a word."""
    for found in re.finditer(rf"\b{word}\b", text, re.IGNORECASE):
        yield text.count("\n", 0, found.start()) + 1


def blank(found: re.Match[str]) -> str:
    """Take code out, and keep its lines."""
    return "\n" * found[0].count("\n")


def wrong_words() -> Iterator[str]:
    """Say which words stand where."""
    texts = {page: _CODE.sub(blank, page.read_text(encoding="utf-8")) for page in pages()}
    modules = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "altcraft_async").rglob("*.py"))}
    for path, text in {**texts, **modules}.items():
        for word in INSTEAD if path in texts else EVERYWHERE:
            for line in lines_with(text, word):
                yield f"{path.relative_to(ROOT)}:{line}: {word!r}; instead: {INSTEAD[word]}"


def wrong_pictures_and_links() -> Iterator[str]:
    """Say which pictures have no words, and which links lead nowhere."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for picture in _PICTURE.finditer(text):
            if not picture["words"] and ":alt:" not in (picture["options"] or ""):
                yield f"{page.relative_to(ROOT)}: a picture without words: {picture['target'] or picture['name']}"
        for mark in re.finditer(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE):
            yield f"{page.relative_to(ROOT)}: a merge that was not ended: {mark[1]}"
        for link in _LINK.finditer(_CODE.sub(blank, text)):
            if not (page.parent / link[1]).exists():
                yield f"{page.relative_to(ROOT)}: a link that leads nowhere: {link[1]}"


def main() -> int:
    """Print what is wrong."""
    found = [*wrong_words(), *wrong_pictures_and_links()]
    print("\n".join(found) or "Nothing to say.")  # noqa: T201 - this is a command
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

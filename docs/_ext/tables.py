"""Tables for narrow screens: one whose words do not fit beside each other on a phone becomes a list of its rows there.

The cells get the headings of their columns as ``data-label``, which the stylesheet shows, and roles, for a screen
reader otherwise hears no table in cells that are laid out as blocks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bs4 import BeautifulSoup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bs4 import Tag
    from sphinx.application import Sphinx

_TABLE = re.compile(r'<table class="docutils.*?</table>', re.DOTALL)
_ON_A_PHONE = 37
"""Letters of a line on a phone."""
_ON_A_DESK = 105
_PROSE = 130
"""Letters of a row of three cells or more that make its cells columns of single words on a phone."""
_PADDING = 1.7
"""Letters' worth of the space between two columns."""


def _words(cell: Tag) -> list[str]:
    return re.split(r"[ \n-]+", cell.get_text())


def _width(rows: Sequence[Sequence[Tag]]) -> float:
    """Return the letters that a table needs side by side, if no word is broken."""
    columns = list(zip(*rows, strict=True))
    return sum(max(len(word) for cell in column for word in _words(cell)) + _PADDING for column in columns)


def _fit(match: re.Match[str]) -> str:
    soup = BeautifulSoup(match[0], "html.parser")
    table = soup.table
    rows = [row.find_all(["th", "td"], recursive=False) for row in soup.find_all("tr")]
    if table is None or not soup.thead or len({len(row) for row in rows}) != 1:
        return match[0]
    width = _width(rows)
    longest = max(sum(len(cell.get_text()) for cell in row) for row in rows)
    narrow = width > _ON_A_PHONE or (len(rows[0]) > 2 and longest > _PROSE)  # noqa: PLR2004 - beside each other
    classes = ["stacks"] * narrow + ["dense"] * (width > _ON_A_DESK)
    if not classes:
        return match[0]
    table["class"] = [*table.get_attribute_list("class"), *classes]
    table["role"] = "table"
    labels = [" ".join(cell.get_text().split()) for cell in rows[0]]
    for row in soup.find_all("tr"):
        row["role"] = "row"
    for group in soup.find_all(["thead", "tbody"]):
        group["role"] = "rowgroup"
    for head in rows[0]:
        head["role"] = "columnheader"
    for cells in rows[1:]:
        for label, cell in zip(labels, cells, strict=True):
            cell["role"] = "cell"
            cell["data-label"] = label
    return str(soup)


def _fit_all(app: Sphinx, page: str, template: str, context: dict[str, object], tree: object) -> None:
    del app, page, template, tree
    context["body"] = _TABLE.sub(_fit, str(context.get("body", "")))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add it to a build."""
    app.connect("html-page-context", _fit_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

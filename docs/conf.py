"""How the documents are built: ``sphinx-build -W --keep-going -b html docs docs/_build/html``."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "altcraft_async"
author = "The altcraft_async maintainers"
copyright = author  # noqa: A001 - the name that Sphinx asks for
version = release = version_of("altcraft-async")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "generated", "soft_role"]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"altcraft_async {version}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "soft"

nitpicky = True
nitpick_ignore_regex = [
    # Other projects: their documents are not loaded, so that the build needs no network.
    (r"py:.*", r"(aiohttp|asyncio|attrs|collections|contextlib|enum|logging|os|pathlib|ssl|types|typing)\..*"),
    # The standard library's names as annotations write them.
    (
        r"py:.*",
        r"(Any|AsyncGenerator|AsyncIterable|BinaryIO|Callable|ClassVar|Collection|Iterable|Iterator|JSON|Literal"
        r"|Logger|Mapping|NamedTuple|PathLike|Protocol|Self|Sequence|StrEnum|TracebackType|Unpack|optional)",
    ),
    (
        r"py:.*",
        r"(bool|bytes|dict|float|frozenset|int|list|object|set|str|tuple|type|None|ConnectionError"
        r"|BaseException|Exception|ImportError|OSError|RuntimeError|TimeoutError|ValueError)",
    ),
    # Types that annotations name and that are described where they are used.
    (r"py:.*", r"(Source|Coalesce|Lane|Format|TokenPlace|Script|LineFaults|ReadItem|ClientOptions|Transport)"),
    (r"py:.*", r"altcraft_async\.(engine|protocol|flow|client|settings|market|sandbox)\.[a-z_.]+\.?[A-Za-z]*"),
]

doctest_global_setup = """
import asyncio
import logging
"""

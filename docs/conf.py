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

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "sphinx_design",
    "generated",
    "llms",
    "soft_role",
    "tables",
]
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"altcraft_async {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_mock_imports = ["distributed", "pyspark", "pytest", "ray"]  # not needed for reading docstrings
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "soft"

nitpicky = True
nitpick_ignore_regex = [
    # the standard library: its documents are not loaded, so that the build needs no network
    (r"py:class", r"(collections\.abc|logging|os)\.\w+|CancelledError|(pathlib\.)?Path|(_?asyncio\.)?Future"),
    # other libraries, for the same reason
    (r"py:class", r"(aiohttp|prometheus_client)\..+|TracerProvider|MeterProvider|TextMapPropagator"),
    # FastAPI's and Starlette's own documents are not loaded either
    (r"py:class", r"(fastapi|starlette)\..*|FastAPI|HTTPConnection|AbstractAsyncContextManager"),
    (r"py:class", r"altcraft_async\.integrations\.fastapi\.(_Parts|deadline_from\.<locals>\.read)"),
    (r"py:class", r"(distributed|pyspark|ray)\..*|Client|SparkSession"),
    # what annotations write inside brackets, cut apart
    (r"py:class", r"(Literal|Callable|Mapping)\[.*"),
    (r"py:class", r"(altcraft_async\.outcome\.)?Fingerprint|Row|T|P(\.k?w?args)?|Value_co|pa\.Table"),
    (r"py:class", r"altcraft_async\.blocking\.api\.Market"),
    # what a report is made of, and no user makes
    (r"py:class", r"Remembered|Statistics|Facts|(altcraft_async\.report\.course\.)?Course"),
    # aliases and arguments that are told in words where they are used
    (
        r"py:class",
        r"(By|ArrowStream|Busy|Place|(.*\.)?_Open|Sequence\[int\]|ParamStyle|(.*\.)?Pool|TracebackType|Coalesce|Expected|ImportOptions|Lifespan|OrderT|ProductT|SkuT|OutboxSource|Delivery|Event|Format|JSON|Lane|Method|ReadItem|Reading|RowT|(.*\.)?_V|(.*\.)?Row_co|(.*\.)?WaitStrategy|(.*\.)?StopStrategy|Dispatcher|Source|TokenPlace|TokenSource|(.*\.)?ClientOptions)",
    ),
]

doctest_global_setup = f"""
import asyncio
import logging
from pathlib import Path

EXAMPLES = Path({str(Path(__file__).parent / "examples")!r})
"""

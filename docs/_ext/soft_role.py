"""The default role: a cross-reference where the name is documented, else plain code.

Docstrings write the names of parameters and of objects alike between single
backticks. Only the latter can be linked; a name without a target is no fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.domains.python import PyXRefRole

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


class SoftRole(PyXRefRole):
    """Writes ``py:obj`` references that may stay without a target."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        """Mark the reference as soft."""
        title, target = super().process_link(env, refnode, has_explicit_title, title, target)
        refnode["soft"] = True
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        return title, target


def _leave_as_code(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    del app, env
    return content if node.get("soft") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the role ``soft``."""
    app.add_role("soft", SoftRole())
    app.connect("missing-reference", _leave_as_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

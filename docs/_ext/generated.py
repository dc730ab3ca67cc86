"""The directive ``generated``: tables and help texts that are made from the code, so that they cannot drift.

``{generated} NAME`` puts one of `CONTENTS` in its place; ``{generated} cli sync``
gives the help of a command. What stands in the directive is for those who read the
page as Markdown: ``fill_tables.py`` writes it, and the site does not look at it.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, ClassVar

import attrs
import click
from docutils import nodes
from docutils.parsers.rst import Directive

import altcraft_async
from altcraft_async import (
    Adaptive,
    AltcraftError,
    APIError,
    OrderLineStatus,
    OutagePolicy,
    OutcomeState,
    RetryPolicy,
    Settings,
    Timeout,
    VerdictRules,
)
from altcraft_async.cli.app import cli
from altcraft_async.cli.exits import ExitCode, exit_code_of
from altcraft_async.cli.results import COLUMNS
from altcraft_async.doctor import Check, Level
from altcraft_async.integrations.web import PROBLEMS
from altcraft_async.kinds import SECONDS, ranges
from altcraft_async.protocol.methods import METHODS
from altcraft_async.protocol.verdict import TABLE
from altcraft_async.sandbox import PRESETS, FaultKind, Result, Sandbox
from altcraft_async.sandbox.admin import PREFIX, ROUTES
from altcraft_async.sandbox.calls import Repeats
from altcraft_async.sandbox.forms import FAULT_FIELDS
from altcraft_async.sandbox.routes import within
from altcraft_async.settings import CREDENTIALS, FILE
from altcraft_async.settings.table import BY_NAME, KEYWORDS, OF_THE_POOL

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sphinx.application import Sphinx

Row = tuple[str, ...]

_CODE = re.compile(r"``(.+?)``|`(.+?)`")
_HELP_WIDTH = 96


def _inline(text: str) -> list[nodes.Node]:
    """Read a text in which backticks mark code."""
    found: list[nodes.Node] = []
    end = 0
    for match in _CODE.finditer(text):
        found.append(nodes.Text(text[end : match.start()]))
        code = match[1] or match[2]
        found.append(nodes.literal(code, code))
        end = match.end()
    found.append(nodes.Text(text[end:]))
    return found


def _row(cells: Sequence[str]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", *_inline(cell)))
    return row


def _table(head: Row, rows: Sequence[Row]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group)


def _summary(thing: object) -> str:
    """Give the first sentence of a docstring, as one line."""
    paragraph = (inspect.getdoc(thing) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).removesuffix(".")


def _member_docs(enumeration: type[enum.Enum]) -> dict[str, str]:
    """Give the docstring below each member of an enumeration."""
    source = inspect.getsource(enumeration)
    found = re.findall(r'^    ([A-Z_]+) = [^\n]*\n    """(.+?)"""', source, flags=re.MULTILINE | re.DOTALL)
    docs = {name: " ".join(text.split()).removesuffix(".") for name, text in found}
    missing = {member.name for member in enumeration} - docs.keys()
    if missing:
        msg = f"{enumeration.__name__} has members without a docstring: {', '.join(sorted(missing))}"
        raise LookupError(msg)
    return docs


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _outcomes() -> nodes.table:
    docs = _member_docs(OutcomeState)
    rows = [(f"`{state}`", docs[state.name], _yes(state.ok), state.safe_to_resend) for state in OutcomeState]
    return _table(("state", "meaning", "ok", "safe to send again"), rows)


def _methods() -> nodes.table:
    rows = []
    for method in METHODS:
        fields = [f"`{name}`*" for name in method.required]
        fields += [f"`{name}`†" for name in method.either]
        fields += [f"`{name}`" for name in method.optional]
        answer = "" if method.payload is None else f"`{method.payload}`"
        rows.append((f"`{method.path}`", ", ".join(fields), answer, method.page, method.since, method.repeat.value))
    return _table(("method", "fields", "answer", "page of the guide", "since", "made twice, it"), rows)


def _verdicts() -> nodes.table:
    head = ("what happened", "state if it was the last attempt", "retried", "back-pressure", "stops the run",
            "may have been applied", "served", "speaks of")  # fmt: skip
    rows = [
        (
            str(evidence), f"`{verdict.state}`", _yes(verdict.retry), _yes(verdict.throttled), _yes(verdict.fatal),
            _yes(verdict.maybe_applied), _yes(verdict.served), "" if verdict.served else verdict.scope.value,
        )
        for evidence, verdict in TABLE.items()
    ]  # fmt: skip
    return _table(head, rows)


def _verdict_rules() -> nodes.table:
    rules = VerdictRules()
    rows = [(f"`{field.name}`", f"`{ranges(getattr(rules, field.name))}`") for field in attrs.fields(VerdictRules)]
    return _table(("field of `VerdictRules`", "codes and statuses by default"), rows)


def _tree(kind: type[AltcraftError], depth: int = 0) -> Iterator[tuple[int, type[AltcraftError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        yield from _tree(child, depth + 1)


def _errors() -> nodes.table:
    rows = []
    for depth, kind in _tree(AltcraftError):
        others = [base.__name__ for base in kind.__bases__ if not issubclass(base, AltcraftError)]
        also = ", ".join(f"`{name}`" for name in others if name != "Exception")
        place = "" if hasattr(altcraft_async, kind.__name__) else f" (in `{kind.__module__}`)"
        rows.append(("\N{NO-BREAK SPACE}" * 4 * depth + f"`{kind.__name__}`", also, _summary(kind) + place))
    return _table(("error", "is also a", "meaning"), rows)


def _met(kind: type[AltcraftError]) -> AltcraftError:
    """Make an error as it is met: one of the API has a code."""
    return kind(code=1) if issubclass(kind, APIError) else kind()


def _error_facts() -> nodes.table:
    rows = [
        (f"`{kind.__name__}`", kind.effect, kind.remedy, f"`{exit_code_of(_met(kind)).value}`")
        for _, kind in _tree(AltcraftError)
        if kind is not AltcraftError
    ]
    return _table(("error", "may have been applied", "what to do next", "exit code"), rows)


def _doctor_checks() -> nodes.table:
    docs = _member_docs(Check)
    return _table(("check", "it is all right when"), [(f"`{check}`", docs[check.name]) for check in Check])


def _doctor_levels() -> nodes.table:
    docs = _member_docs(Level)
    return _table(("level", "meaning"), [(f"`{level}`", docs[level.name]) for level in Level])


def _default(value: object) -> str:
    if isinstance(value, frozenset):
        return f"`{ranges(value)}`"
    if isinstance(value, Adaptive | OutagePolicy | RetryPolicy | Timeout):
        return f"`{type(value).__name__}()`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


def _problems() -> nodes.table:
    rows = [
        (
            f"`{kind.__name__}`",
            str(told.status),
            told.title,
            "" if told.retry_after is None else f"{told.retry_after:g} s",
        )
        for kind, told in PROBLEMS.items()
    ]
    return _table(("error", "status", "title", "`Retry-After` unless known"), rows)


def _settings() -> nodes.table:
    defaults = {field.name: field.default for field in attrs.fields(Settings)}
    defaults["timeout"] = Timeout()
    rows = []
    for row in KEYWORDS.values():
        default = _default(defaults[row.name]) if row.name in defaults else ""
        also = "; a number, or a `Timeout`" if row.name == "timeout" else ""
        rows.append((f"`{row.name}`", default, row.help + also, _yes(row.name not in OF_THE_POOL)))
    return _table(("keyword", "default", "meaning", "may differ in a copy"), rows)


def _environment() -> nodes.table:
    rows: list[Row] = []
    for row in (*FILE, *CREDENTIALS, *BY_NAME.values()):
        kind = "a time" if row.kind is SECONDS else row.kind.text_words if row.kind else ""
        sets = ".".join(row.path)
        default = "" if row in (*FILE, *CREDENTIALS) or row.name == "max_retries" else _default(row.of(Settings()))
        option = f"`{row.option}`" if row.flag else ""
        rows.append((f"`{row.variable}`", option, f"`{sets}`", row.help, kind, default))
    return _table(("variable", "option", "sets", "meaning", "value", "default"), rows)


def _fields_of(kind: type[attrs.AttrsInstance]) -> Callable[[], nodes.table]:
    def make() -> nodes.table:
        rows = [(f"`{field.name}`", f"`{field.default!r}`") for field in attrs.fields(kind) if field.name != "rules"]
        return _table(("field", "default"), rows)

    return make


def _statuses() -> nodes.table:
    return _table(("member", "id"), [(f"`OrderLineStatus.{one.name}`", f"`{one}`") for one in OrderLineStatus])


def _faults() -> nodes.table:
    docs = _member_docs(FaultKind)
    return _table(("kind", "what happens"), [(f"`{kind}`", docs[kind.name]) for kind in FaultKind])


def _routes() -> nodes.table:
    rows = []
    for route in ROUTES:
        takes = [f"`{one.name}`" + ("*" if one.required else "") for one in route.arguments if one.place != "path"]
        if route.body is not None:
            takes.append(route.body.help)
        rows.append((f"`{route.method} {within(PREFIX, route)}`", route.summary, ", ".join(takes), route.answer))
    return _table(("call", "what it does", "query or body", "answer"), rows)


def _fault_fields() -> nodes.table:
    rows = [
        (f"`{name}`", " or ".join((*field.choices, *(["null"] if field.empty else []))) if field.choices
         else str(field.kind) + (", or null" if field.empty else ""), field.help)
        for name, field in FAULT_FIELDS.items()
    ]  # fmt: skip
    return _table(("field", "takes", "what it does"), rows)


def _named(enumeration: type[enum.StrEnum], head: str) -> Callable[[], nodes.table]:
    docs = _member_docs(enumeration)
    return lambda: _table((head, "meaning"), [(f"`{one}`", docs[one.name]) for one in enumeration])


def _exit_codes() -> nodes.table:
    docs = _member_docs(ExitCode)
    rows = [(f"`{code.value}`", docs[code.name]) for code in ExitCode]
    rows += [("`130`", "Interrupted by SIGINT (Ctrl-C)"), ("`143`", "Interrupted by SIGTERM")]
    return _table(("code", "meaning"), rows)


def _presets() -> nodes.table:
    return _table(("preset", "the server"), [(f"`{name}`", one.text) for name, one in PRESETS.items()])


def _columns() -> nodes.paragraph:
    return nodes.paragraph("", "", *_inline(", ".join(f"`{name}`" for name in COLUMNS) + "."))


def _unknowns() -> nodes.bullet_list:
    return nodes.bullet_list(
        "", *(nodes.list_item("", nodes.paragraph("", "", *_inline(one))) for one in Sandbox.UNKNOWNS)
    )


def _cli(name: str = "") -> nodes.literal_block:
    settings = {"terminal_width": _HELP_WIDTH, "max_content_width": _HELP_WIDTH}
    context = click.Context(cli, info_name="altcraft-async", **settings, **cli.context_settings)
    for word in name.split():
        command = context.command.get_command(context, word)
        context = click.Context(command, parent=context, info_name=word, **settings)
    text = context.command.get_help(context)
    return nodes.literal_block(text, text, language="text")


def _commands(group: click.Group) -> Iterator[str]:
    """Name the commands, those of a group behind its own name."""
    for name, command in group.commands.items():
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {inner}" for inner in _commands(command))


CONTENTS: Mapping[str, Callable[[], nodes.Node]] = {
    "adaptive": _fields_of(Adaptive),
    "doctor-checks": _doctor_checks,
    "doctor-levels": _doctor_levels,
    "environment": _environment,
    "error-facts": _error_facts,
    "errors": _errors,
    "exit-codes": _exit_codes,
    "fault-kinds": _faults,
    "fault-presets": _presets,
    "methods": _methods,
    "outcomes": _outcomes,
    "problems": _problems,
    "result-columns": _columns,
    "outage-policy": _fields_of(OutagePolicy),
    "retry-policy": _fields_of(RetryPolicy),
    "sandbox-fault-fields": _fault_fields,
    "sandbox-repeats": _named(Repeats, "repeats"),
    "sandbox-results": _named(Result, "result"),
    "sandbox-routes": _routes,
    "sandbox-unknowns": _unknowns,
    "settings": _settings,
    "statuses": _statuses,
    "timeout": _fields_of(Timeout),
    "verdict-rules": _verdict_rules,
    "verdicts": _verdicts,
    "cli": _cli,
    **{f"cli {name}": (lambda name=name: _cli(name)) for name in _commands(cli)},
}
"""What can be generated, by name."""


class Generated(Directive):
    """Puts one of `CONTENTS` in its place."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Callable[[str], object]]] = {}

    def run(self) -> list[nodes.Node]:
        """Make the content."""
        make = CONTENTS.get(self.arguments[0])
        if make is None:
            msg = f"nothing is generated under the name {self.arguments[0]!r}"
            raise self.error(msg)
        return [make()]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

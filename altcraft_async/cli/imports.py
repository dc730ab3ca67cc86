"""The commands ``orders import``, ``products import`` and ``skus import``: an input goes out in batches.

All but the reading, the sending and the dry run is that of ``sync``.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

import attrs
import click

from altcraft_async import Batch, ConfigurationError, JournalError
from altcraft_async.cli.display import summary
from altcraft_async.cli.dry_run import say_ready
from altcraft_async.cli.exits import ExitCode, Tally
from altcraft_async.cli.inputs import Input, named_in, said_of, started
from altcraft_async.cli.job import SyncJob, print_json
from altcraft_async.cli.results import IMPORT_COLUMNS
from altcraft_async.cli.sync import sync
from altcraft_async.ingest import HeldBackError, InputError, read_values
from altcraft_async.values import Order, Product, Sku

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from altcraft_async import AltcraftClient, Outcome
    from altcraft_async.cli.display import Talk
    from altcraft_async.cli.job import Rows
    from altcraft_async.ingest import UpdateReader
    from altcraft_async.observe import Observer

__all__ = ["ImportJob", "ValuesInput", "What", "run"]

What: TypeAlias = Literal["orders", "products", "skus"]
_MAKES: dict[What, Callable[[Mapping[str, object]], object]] = {
    "orders": Order.from_dict,
    "products": Product.from_dict,
    "skus": Sku.from_dict,
}
_ANSWERS = 3
"""Answers that say something of the whole input, where they are all the same no."""


@attrs.frozen(kw_only=True)
class ValuesInput(Input):
    """An input of whole objects."""

    what: What

    @classmethod
    def from_input(cls, given: Input, what: What) -> ValuesInput:
        """Return an input that is read as objects; raises `ConfigurationError` for options that are for updates."""
        if given.columns or given.constants or given.statuses or given.skip_lines or given.input_format:
            msg = "--map, --set, --status, --skip-lines and --format are for inputs of updates; leave them out"
            raise ConfigurationError(msg)
        return cls(**{name: getattr(given, name) for name in attrs.fields_dict(Input)}, what=what)

    def _reader(self, source: str | Path | BinaryIO, **given: Any) -> UpdateReader:
        return read_values(
            source,
            _MAKES[self.what],
            encoding=self.encoding,
            last_line=self.last_line,
            keep_rows=True,
            opened_at=started(),
            **given,
        )


@attrs.frozen(kw_only=True)
class ImportJob(SyncJob):
    """What an import was asked to do; the fields are its options beside those of ``sync``.

    `definitions` has the keywords that go with every batch.
    """

    noun: ClassVar[str] = "row"
    columns: ClassVar[Sequence[str]] = IMPORT_COLUMNS

    what: What
    definitions: Mapping[str, Any]
    batch_size: int
    batch_bytes: int
    split: bool
    batch_timeout: float
    request_format: str

    @property
    def enough(self) -> int:
        """The rows of some batches: one that is refused as a whole says nothing of the others."""
        return _ANSWERS * self.batch_size

    def check(self) -> None:
        """Raise `ConfigurationError` for options that do not go together."""
        super().check()
        if self.journal is None or self.limit is None:
            return
        if self.dry_run:
            msg = "--dry-run, --sample and --journal of an import do not go together; leave one of them out"
            raise ConfigurationError(msg)
        if self.limit % self.batch_size:
            msg = (
                f"--sample {self.limit} of an import with --journal would cut a batch, which goes out whole or not at "
                f"all; make it a multiple of {self.batch_size}, the --batch-size"
            )
            raise ConfigurationError(msg)

    def stream(self, client: AltcraftClient, rows: Rows) -> AsyncGenerator[Outcome[Any], None]:
        """Import what the input has."""
        market, given = client.market, cast("Iterable[Any]", rows)
        options: dict[str, Any] = {
            **self._cut(),
            "deadline": self.deadline,
            "stop_after": None if self.max_failures == "none" else self.max_failures,
            "extend": self.extend,
        }
        if self.what == "orders":
            return market.orders.stream_import_orders(given, **options)
        if self.what == "products":
            return market.products.stream_import_products(given, **options)
        return market.skus.stream_import_skus(given, **options)

    def _cut(self) -> dict[str, Any]:
        return {
            **self.definitions,
            "batch_size": self.batch_size,
            "batch_bytes": self.batch_bytes,
            "window_bytes": 8 * self.batch_bytes,
            "on_refused": "split" if self.split else "report",
            "timeout": self.batch_timeout,
            "journal": self.journal,
            "retry_failed": self.retry_failed,
        }

    def preview(self, client: AltcraftClient, rows: Iterable[Any]) -> Iterator[Batch | Outcome[Any]]:
        """Give the batches that would be sent, and the outcomes of the other rows."""
        market = client.market
        if self.what == "orders":
            return market.orders.preview_import_orders(rows, **self._cut())
        if self.what == "products":
            return market.products.preview_import_products(rows, **self._cut())
        return market.skus.preview_import_skus(rows, **self._cut())

    def dry(self, reader: UpdateReader, talk: Talk) -> int:
        """Read the input, tell which batches a run would send, and return the exit code."""
        from altcraft_async import AltcraftClient  # noqa: PLC0415 - nothing is sent by it

        started = time.monotonic()
        wire: Literal["json", "xml"] = "xml" if self.request_format == "xml" else "json"
        client = AltcraftClient("http://127.0.0.1", "dry-run", request_format=wire)
        tally, batches, size, largest = Tally(), 0, 0, 0
        held_back: str | None = None
        rows = self._rows(reader)
        try:
            for found in self.preview(client, rows):
                if isinstance(found, Batch):
                    batches, size, largest = batches + 1, size + found.size, max(largest, found.size)
                    tally.states["valid"] += found.rows
                elif found.ok:
                    tally.done_before += 1
                else:
                    tally.add(found)
        except JournalError as error:
            raise named_in(error, reader) from None
        except HeldBackError as error:
            held_back = said_of(error)
        elapsed = time.monotonic() - started
        summary(talk, tally, elapsed, results=True, noun=self.noun)
        say_ready(talk, f"batches {batches:,}, bytes {size:,}, the longest {largest:,}", held_back)
        code = ExitCode.NOT_ALL_APPLIED if tally.failed or held_back else ExitCode.OK
        if self.as_json:
            print_json(self, reader, tally, elapsed=elapsed, code=code, batches=batches, size=size)
        return code

    def _rows(self, reader: UpdateReader) -> Iterator[Any]:
        for index, row in enumerate(reader):
            if index == self.limit:
                return
            reader.take_row(index)
            yield row


def _definitions(what: What, path: str | None) -> dict[str, Any]:
    """Read the file of definitions: an object with lists of them, by the platform's names."""
    if path is None:
        return {}
    allowed = ("custom_fields", "custom_line_statuses") if what == "orders" else ("custom_fields", "categories")
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"it is not JSON ({error})"
        msg = f"{path} cannot be read: {reason}"
        raise InputError(msg, source=path) from None
    if not isinstance(found, dict) or not found.keys() <= set(allowed):
        msg = f"{path} must hold one object with {' and '.join(allowed)}, and nothing else"
        raise InputError(msg, source=path)
    return found


def run(what: What, make_client: Callable[[Sequence[Observer]], AltcraftClient], fields: dict[str, Any]) -> int:
    """Do an import with the values of its options, and return the exit code.

    Raises `click.UsageError` for orders of which it is not said whether they start automations.
    """
    skip, start = fields.pop("skip_triggers", False), fields.pop("triggers", False)
    if what == "orders" and skip == start:
        msg = (
            "say --triggers, so that automations start for these orders, or --skip-triggers: "
            "an import of old orders must not write to people by mistake"
        )
        raise click.UsageError(msg)
    definitions = _definitions(what, fields.pop("definitions"))
    if what == "orders":
        definitions["skip_triggers"] = skip
    given = ValuesInput(
        source=fields.pop("source"),
        what=what,
        columns={},
        constants={},
        statuses={},
        input_format=None,
        encoding=fields.pop("encoding"),
        skip_lines=0,
        last_line=fields.pop("last_line"),
    )
    job = ImportJob(input=given, what=what, definitions=definitions, coalesce="all", **fields)
    return sync(job, make_client, job.dry)

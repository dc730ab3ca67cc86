"""What ``sync`` was asked to do, and its summary for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import attrs

from altcraft_async import ConfigurationError
from altcraft_async.cli.results import COLUMNS, refuse_other_form
from altcraft_async.cli.talk import emit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from altcraft_async import AltcraftClient, FailureLimit, Outcome
    from altcraft_async.cli.exits import Tally
    from altcraft_async.cli.inputs import Input
    from altcraft_async.ingest import ReadItem, UpdateReader

    Rows: TypeAlias = Iterable[ReadItem] | AsyncGenerator[ReadItem, None]

__all__ = ["SyncJob", "print_json"]


@attrs.frozen(kw_only=True)
class SyncJob:
    """What ``sync`` was asked to do; the fields are its options."""

    noun: ClassVar[str] = "update"
    columns: ClassVar[Sequence[str]] = COLUMNS

    input: Input
    journal: str | None
    retry_failed: bool
    extend: bool
    results: str | None
    failed: str | None
    report: str | None = None
    dry_run: bool
    deadline: float | None
    limit: int | None
    max_failures: FailureLimit | Literal["none"] | None
    coalesce: str
    quiet: bool
    as_json: bool

    @property
    def enough(self) -> int:
        """How many outcomes say something of the whole input, where they are all alike."""
        return 1

    def check(self) -> None:
        """Raise `ConfigurationError` for options that do not go together."""
        if self.results == "-" and self.as_json:
            msg = "--results - and --json would both write to standard output; give the results a file"
            raise ConfigurationError(msg)
        if self.journal is None and (self.retry_failed or self.extend):
            option = "--retry-failed" if self.retry_failed else "--extend"
            msg = f"{option} goes with --journal FILE, the file that an earlier run wrote"
            raise ConfigurationError(msg)
        if self.results is not None:
            refuse_other_form("--results", self.results, parquet=True)
        if self.failed is not None:
            refuse_other_form("--failed", self.failed)
        if self.report == "-":
            msg = "--report is a file, run.html or run.json; give its name, or ./- for one that is called so"
            raise ConfigurationError(msg)
        if self.journal == "-":
            msg = "a journal is a file; give its name, or ./- for one that is called so"
            raise ConfigurationError(msg)

    def stream(self, client: AltcraftClient, rows: Rows) -> AsyncGenerator[Outcome[Any], None]:
        """Send what the input has."""
        return client.market.orders.stream_order_line_statuses(
            rows,
            deadline=self.deadline,
            coalesce="latest" if self.coalesce == "latest" else "all",
            stop_after=None if self.max_failures == "none" else self.max_failures,
            journal=self.journal,
            retry_failed=self.retry_failed,
            extend=self.extend,
        )


def print_json(  # noqa: PLR0913 - all that there is to tell
    job: SyncJob,
    reader: UpdateReader,
    tally: Tally,
    *,
    elapsed: float,
    code: int,
    journal: Mapping[str, object] | None = None,
    **more: object,
) -> None:
    """Write the summary of a run as one JSON object to standard output; `journal` has what its journal says."""
    said = {
        "source": reader.source,
        "format": str(reader.format),
        "dry_run": job.dry_run,
        "updates": tally.total,
        "done_before": tally.done_before,
        "states": dict(tally.states.most_common()),
        "requests": tally.sent,
        "retries": tally.retries,
        "throttled": tally.throttled,
        "elapsed": round(elapsed, 3),
        "complete": reader.exhausted,
        "journal": None if journal is None else dict(journal),
        "exit_code": int(code),
        "suspicions": [attrs.asdict(suspicion) for suspicion in reader.suspicions],
        "reasons": tally.reasons.records(),
        "failures": [
            {"index": outcome.index, "line": place.line, "state": str(outcome.state), "error": str(outcome.error)}
            for place, outcome in tally.failures
        ],
        **more,
    }
    emit(json.dumps(said) + "\n")

"""What ``sync`` was asked to do, and its summary for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import attrs

from altcraft_async.cli.talk import emit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from altcraft_async import FailureLimit
    from altcraft_async.cli.exits import Tally
    from altcraft_async.cli.inputs import Input
    from altcraft_async.ingest import UpdateReader

__all__ = ["SyncJob", "print_json"]


@attrs.frozen(kw_only=True)
class SyncJob:
    """What ``sync`` was asked to do; the fields are its options."""

    input: Input
    journal: str | None
    retry_failed: bool
    extend: bool
    results: str | None
    failed: str | None
    dry_run: bool
    deadline: float | None
    limit: int | None
    max_failures: FailureLimit | Literal["none"] | None
    coalesce: str
    quiet: bool
    as_json: bool


def print_json(  # noqa: PLR0913 - all that there is to tell
    job: SyncJob,
    reader: UpdateReader,
    tally: Tally,
    *,
    elapsed: float,
    code: int,
    journal: Mapping[str, object] | None = None,
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
        "failures": [
            {"index": outcome.index, "line": line, "state": str(outcome.state), "error": str(outcome.error)}
            for line, outcome in tally.failures
        ],
    }
    emit(json.dumps(said) + "\n")

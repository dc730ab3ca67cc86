"""The keywords of bulk calls of the Market."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from altcraft_async.engine.imports import OnRefused
    from altcraft_async.flow.failures import FailureLimit
    from altcraft_async.flow.policy import OutagePolicy
    from altcraft_async.protocol.values.custom import CustomField

__all__ = ["ImportOptions"]


class ImportOptions(TypedDict, total=False):
    """The keywords that all imports have, each with a default.

    - `custom_fields`: definitions of custom fields, `CustomField` or mappings; they go with every batch
    - `batch_size` (500), `batch_bytes` (1,000,000): the maximum rows and bytes of one call; the platform takes bodies
      of 10 MB by default
    - `on_refused`: with ``"report"`` all rows of a refused batch are refused; with ``"split"`` the batch is divided
      into halves again and again until the wrong rows are found. If a platform refuses a batch after it has imported a
      part, that part is then imported twice
    - `window_bytes` (8,000,000): the maximum bytes of rows held in memory before their outcome, at least two batches
    - `timeout` (120): seconds for one attempt
    - `deadline`, `rate` (batches a second), `stop_after` (of answers), `outage`, `journal`,
      `retry_failed`, `extend`: as for `Orders.update_order_line_statuses`
    """

    custom_fields: Iterable[CustomField | Mapping[str, object]]
    batch_size: int
    batch_bytes: int
    on_refused: OnRefused
    window_bytes: int
    timeout: float
    deadline: float | None
    rate: float | None
    stop_after: FailureLimit | None
    outage: OutagePolicy | None
    journal: str | os.PathLike[str] | None
    retry_failed: bool
    extend: bool

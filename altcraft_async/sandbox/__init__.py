"""An Altcraft Market to run against: for tests, demos and rehearsals, on loopback.

It emulates the thirteen methods of the Market section of the User API v1.1 in JSON and XML, with deduplication, chosen
faults from a seed, and a ledger that finds lost, duplicated and reordered changes. It reads requests with its own
strict code, so that it cannot share a mistake with the client. Programs in any language drive it through an admin API
below ``/_sandbox/``, and people through a page at ``/``.

It was made from the public API guide and never compared with a live platform. Where the guide is silent,
`Sandbox.UNKNOWNS` lists the assumptions.
"""

from __future__ import annotations

from altcraft_async.sandbox.faults import Fault, FaultKind, FaultPlan, Faults
from altcraft_async.sandbox.ledger import (
    Arrival,
    Change,
    Import,
    ImportArrival,
    Ledger,
    LedgerCheck,
    LedgerStatistics,
    mark_of,
)
from altcraft_async.sandbox.presets import PRESETS, Preset
from altcraft_async.sandbox.readings import Readings
from altcraft_async.sandbox.scenario import Scenario
from altcraft_async.sandbox.server import Sandbox
from altcraft_async.sandbox.thread import ThreadedSandbox
from altcraft_async.sandbox.traffic import Refusals, Result, Seen, Traffic

__all__ = [
    "PRESETS",
    "Arrival",
    "Change",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Faults",
    "Import",
    "ImportArrival",
    "Ledger",
    "LedgerCheck",
    "LedgerStatistics",
    "Preset",
    "Readings",
    "Refusals",
    "Result",
    "Sandbox",
    "Scenario",
    "Seen",
    "ThreadedSandbox",
    "Traffic",
    "mark_of",
]

"""An Altcraft Market to run against: for tests, demos and rehearsals, on loopback.

It emulates the thirteen methods of the Market section of the User API v1.1 in
JSON and XML, with deduplication, chosen faults from a seed, and a ledger of what was lost, duplicated or reordered. It
reads requests with its own strict code, so that it cannot share a mistake with
the client.

It was made from the public API guide and never compared with a live platform.
Where the guide is silent, `Sandbox.UNKNOWNS` says what was assumed.
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
from altcraft_async.sandbox.readings import Readings
from altcraft_async.sandbox.server import Sandbox
from altcraft_async.sandbox.thread import ThreadedSandbox

__all__ = [
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
    "Readings",
    "Sandbox",
    "ThreadedSandbox",
    "mark_of",
]

"""The journal of a bulk run: a file with which a killed run can simply be run again, and its reader.

A run writes a journal if you give it one:

.. code-block:: python

    from altcraft_async.blocking import AltcraftClient

    updates = [("order_1", "line_1", "delivered")]
    with AltcraftClient.from_env() as altcraft:
        altcraft.market.orders.update_order_line_statuses(updates, journal="run.journal")

`JournalReader` reads it, also while the run goes on. `forget` deletes the data of an order from it.
"""

from __future__ import annotations

from altcraft_async.journal.forgetting import forget
from altcraft_async.journal.notes import CommandNote, keep_command
from altcraft_async.journal.reader import DedupWindowWarning, JournalReader, JournalSummary, LongerRowWarning, Slow
from altcraft_async.journal.recorder import begin_journal
from altcraft_async.timeline import Bucket, Level

__all__ = [
    "Bucket",
    "CommandNote",
    "DedupWindowWarning",
    "JournalReader",
    "JournalSummary",
    "Level",
    "LongerRowWarning",
    "Slow",
    "begin_journal",
    "forget",
    "keep_command",
]

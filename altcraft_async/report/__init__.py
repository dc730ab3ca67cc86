"""The report of a run: its figures, and a page of them that opens without a network.

A report is made from a run's result or from its journal:

.. code-block:: python

    from pathlib import Path

    from altcraft_async.blocking import AltcraftClient
    from altcraft_async.journal import JournalReader
    from altcraft_async.report import page

    updates = [("order_1", "line_1", "delivered")]
    with AltcraftClient.from_env() as altcraft:
        report = altcraft.market.orders.update_order_line_statuses(updates, journal="run.journal")
    Path("run.html").write_text(report.to_html(), encoding="utf-8")

    with JournalReader("run.journal") as journal:  # at any time, in any process
        Path("run.html").write_text(page(journal.figures()), encoding="utf-8")

`answers` gives the texts at the top of the page, for a mail or a chat. For a run that streams, a `Recording` collects
the outcomes. The page needs the extra ``report``; `Figures.to_dict`, which has the same figures for programs, needs no
extra.
"""

from altcraft_async.report.figures import Figures, SlowRow
from altcraft_async.report.page import page
from altcraft_async.report.reasons import Place, Reason
from altcraft_async.report.recording import Recording
from altcraft_async.report.words import Answer, Mood, answers
from altcraft_async.timeline import Bucket, Level

__all__ = ["Answer", "Bucket", "Figures", "Level", "Mood", "Place", "Reason", "Recording", "SlowRow", "answers", "page"]

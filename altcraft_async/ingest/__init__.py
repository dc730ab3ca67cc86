"""Updates from files and columns: CSV, JSON, Excel, Parquet and Arrow, row by row, with flat memory.

`read_updates` opens an input and returns an `UpdateReader`: an iterable of updates that you give to a bulk call
directly. A row that cannot become an update is an `InvalidUpdateError` in its place, which names the line or row, the
field and the remedy; the bulk call turns it into an ``invalid`` outcome, and the other rows go on. An input that cannot
be read at all raises `InputError`. If it is not certain from some line on where rows begin, that line raises
`HeldBackError`.

.. code-block:: python

    from altcraft_async.blocking import AltcraftClient
    from altcraft_async.ingest import read_updates

    columns = {"order_external_id": "Order", "order_line_external_id": "Line", "status_external_id": "Status"}
    with AltcraftClient.from_env() as altcraft, read_updates("export.csv", columns=columns) as updates:
        for outcome in altcraft.market.orders.stream_order_line_statuses(updates):
            print(outcome.index, outcome.state)

**CSV.** The first line that is not blank is the header; a line ``sep=;`` may come before it. The separator is ``,``,
``;`` or a tab, found from the header. Names of columns are compared without case. Cells may be quoted, and a quoted
cell may span lines. Blanks around an id are dropped, and rows without content are skipped.

**JSON.** One object a line, or one array of objects; one key a field. Whole
numbers count as their digits. Blank lines are skipped.

**Columns.** Parquet and Arrow: a file, a directory, a pattern, an address that fsspec knows, or an object with
``__arrow_c_stream__``, as polars, DuckDB and pandas have; needs the extra ``arrow``. Only the needed columns are read,
some batches ahead. Values are texts or whole numbers, taken unchanged.

**Excel.** The first visible sheet of an ``.xlsx`` file; needs the extra ``excel``.

Text is UTF-8, with or without a byte order mark, unless an encoding is given.
Gzip is unpacked.
"""

from __future__ import annotations

from altcraft_async.errors import Unit
from altcraft_async.ingest.errors import HeldBackError, InputError
from altcraft_async.ingest.rows import InputFormat, KeptRow, UpdateReader, read_updates, read_values
from altcraft_async.ingest.suspicion import Suspicion
from altcraft_async.ingest.table import FIELDS, ReadItem
from altcraft_async.ingest.text import LastLine

__all__ = [
    "FIELDS",
    "HeldBackError",
    "InputError",
    "InputFormat",
    "KeptRow",
    "LastLine",
    "ReadItem",
    "Suspicion",
    "Unit",
    "UpdateReader",
    "read_updates",
    "read_values",
]

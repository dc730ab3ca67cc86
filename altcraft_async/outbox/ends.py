"""What ended, as statements on the tables in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from altcraft_async.storage.postgres import array

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from altcraft_async.outbox.store import Burial, Entry
    from altcraft_async.outbox.tables import Tables
    from altcraft_async.storage.postgres import Statement

__all__ = ["ends", "in_ascii"]


def ends(tables: Tables, owner: UUID, delivered: Sequence[Entry], dead: Sequence[Burial]) -> list[Statement]:
    """Return the statements that bury the dead of `owner`, then delete what was delivered; none for nothing.

    In this order: what was delivered overtakes the dead of its line, those of the same settling too.
    """
    statements: list[Statement] = []
    if dead:
        entries = [burial.entry for burial in dead]
        columns = [
            array(entry.bucket for entry in entries),
            array(burial.epoch for burial in dead),
            array(entry.id for entry in entries),
            array(entry.request_id for entry in entries),
            array(str(burial.state) for burial in dead),
            array(burial.reason for burial in dead),
            array(burial.attempts for burial in dead),
        ]
        statements.append((tables.buried, [owner, *columns]))
    if delivered:
        updates = [entry.update for entry in delivered]
        columns = [
            array(entry.bucket for entry in delivered),
            array(entry.id for entry in delivered),
            array(entry.request_id for entry in delivered),
            array(update.order_external_id for update in updates),
            array(update.order_line_external_id for update in updates),
        ]
        statements.append((tables.delivered, columns))
    return statements


def in_ascii(burial: Burial) -> Burial:
    """Write a reason so that a database of any encoding can hold it."""
    return attrs.evolve(burial, reason=burial.reason.encode("ascii", "backslashreplace").decode())

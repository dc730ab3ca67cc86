"""The plan of a directory of shards: which files, whose rows, under which ids.

.. code-block:: text

    DIRECTORY/shard-00000.parquet …       the rows: one file, one shard
    DIRECTORY/_altcraft/plan.json         the plan
    DIRECTORY/_altcraft/00000.lease.json  who delivers a shard, and how far it has come
    DIRECTORY/_altcraft/00000.journal     the snapshot of its journal
    DIRECTORY/_altcraft/00000.report.json its report, once it is done
    DIRECTORY/_altcraft/00000.failed.parquet  the rows that failed
    DIRECTORY/_altcraft/members/…         the parts of a total that is shared

All rows of an order are in one shard, in the order of the input. The id of a shard's run, and with it the
``Request-ID`` of each of its updates, follows from the plan's id, the shard's number and the row alone. So a second
copy of a shard sends the same as the first, under the same ids.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4, uuid5

import attrs

from altcraft_async.ingest import FIELDS
from altcraft_async.shards.errors import ShardError
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["FROZEN", "PRIVATE", "Plan", "ShardFile", "checksum_of", "fresh_place", "name_of", "read_plan", "write_plan"]

PRIVATE: Final = "_altcraft"
"""Where all but the rows is; readers of directories pass over names that begin so."""
_PLAN: Final = f"{PRIVATE}/plan.json"
_FORMAT: Final = 1


@attrs.frozen
class ShardFile:
    """One shard: its file in the directory, how many `rows` and bytes it has, and the `checksum` of those bytes."""

    file: str
    rows: int
    size: int
    checksum: str


@attrs.frozen
class Plan:
    """The plan of a directory of shards.

    `id` is the plan's own; all other ids depend on it. `target` is the platform's address, if the plan was made for
    one. `frozen` says that `plan_shards` wrote the files; otherwise another tool did, and `columns`, `constants` and
    `statuses` say how they are read, as for `altcraft_async.ingest.read_updates`.
    """

    id: str
    created: float
    target: str | None
    frozen: bool
    shards: Sequence[ShardFile] = attrs.field(repr=lambda shards: f"<{len(shards)} shards>")
    columns: Mapping[str, str] = attrs.field(factory=dict)
    constants: Mapping[str, str] = attrs.field(factory=dict)
    statuses: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def rows(self) -> int:
        """How many rows all shards have."""
        return sum(shard.rows for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """A checksum of all rows and of how they are read."""
        how = [self.columns, self.constants, self.statuses, [shard.checksum for shard in self.shards]]
        return hashlib.blake2b(json.dumps(how, sort_keys=True).encode(), digest_size=16).hexdigest()

    def run_id(self, number: int) -> str:
        """Return the id of a shard's run, the same for all copies of it."""
        return str(uuid5(UUID(self.id), f"shard {number}"))

    def shard(self, number: int, directory: str) -> ShardFile:
        """Return a shard by its number; raises `ShardError` if there is none."""
        if not 0 <= number < len(self.shards):
            last = len(self.shards) - 1
            msg = f"{directory} has the shards 0 to {last}, and no shard {number}; give one of these numbers"
            raise ShardError(msg, directory=directory, shard=number)
        return self.shards[number]


def name_of(number: int, what: str) -> str:
    """Return the name of the file that has `what` of a shard."""
    return f"{PRIVATE}/{number:05}.{what}"


def checksum_of(path: Path) -> str:
    """Return a checksum of a file on this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def fresh_place(directory: str | os.PathLike[str]) -> Place:
    """Return a directory in which there is no plan yet; raises `ShardError` if there is one."""
    place = Place(directory)
    if _PLAN.rpartition("/")[2] in place.sizes(PRIVATE):
        msg = f"{place.address} has a plan already; deliver its shards, or give another directory"
        raise ShardError(msg, directory=place.address)
    return place


def write_plan(
    place: Place,
    shards: Sequence[ShardFile],
    *,
    target: str | None,
    frozen: bool,
    reading: Mapping[str, Any] | None = None,
) -> Plan:
    """Write a plan with an id of its own: from then on the shards can be delivered."""
    plan = Plan(str(uuid4()), time.time(), target, frozen, shards, **(reading or {}))
    said = attrs.asdict(plan) | {"format": _FORMAT, "rows": plan.rows, "fingerprint": plan.fingerprint}
    place.write(_PLAN, json.dumps(said, indent=1, ensure_ascii=False).encode())
    return plan


def read_plan(directory: str | os.PathLike[str] | Place) -> Plan:
    """Read the plan of a directory; raises `ShardError` if there is none that can be read."""
    place = directory if isinstance(directory, Place) else Place(directory)
    try:
        said = json.loads(place.read(_PLAN))
        if said["format"] != _FORMAT:
            msg = f"the plan in {place.address} is of format {said['format']}, and this release knows {_FORMAT}"
            raise ShardError(msg, directory=place.address)
        shards = [ShardFile(**shard) for shard in said["shards"]]
        own = {field.name: said[field.name] for field in attrs.fields(Plan) if field.name != "shards"}
        plan = Plan(**own, shards=shards)
    except FileNotFoundError:
        msg = f"{place.address} has no plan; make one with plan_shards or adopt_shards (shards plan, shards adopt)"
        raise ShardError(msg, directory=place.address) from None
    except (ValueError, KeyError, TypeError):
        msg = f"the plan in {place.address} cannot be read; restore {_PLAN} as it was written"
        raise ShardError(msg, directory=place.address) from None
    if plan.fingerprint != said["fingerprint"]:
        msg = f"the plan in {place.address} was changed since it was made; restore {_PLAN} as it was written"
        raise ShardError(msg, directory=place.address)
    return plan


FROZEN: Final[Mapping[str, type]] = {
    "index": int, **dict.fromkeys(FIELDS, str), "request_id": str, "error": str, "error_field": str, "source": str,
    "line": int, "unit": str,
}  # fmt: skip
"""The columns of a frozen shard: the row's place in the input, what it says, and what is wrong with it."""

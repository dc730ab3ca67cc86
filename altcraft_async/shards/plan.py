"""The plan of a directory of shards: which files, whose rows, under which ids.

.. code-block:: text

    DIRECTORY/shard-00000.parquet …       the rows: one file, one shard
    DIRECTORY/_altcraft/plan.json         the plan
    DIRECTORY/_altcraft/00000.lease.json  who delivers a shard, and how far it has come
    DIRECTORY/_altcraft/00000.journal     the snapshot of its journal
    DIRECTORY/_altcraft/00000.report.json its report, once it is done
    DIRECTORY/_altcraft/00000.failed.parquet  the rows that failed
    DIRECTORY/_altcraft/members/…         the parts of a total that is shared
    DIRECTORY/_altcraft/now               an empty file that tells the time by the file system's clock

All rows of an order are in one shard, in the order of the input. The id of a shard's run, and with it the
``Request-ID`` of each of its updates, follows from the plan's id, the shard's number and the row alone. So a second
copy of a shard sends the same as the first, under the same ids.
"""

from __future__ import annotations

import hashlib
import json
import operator
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4, uuid5

import attrs

from altcraft_async.errors import ConfigurationError
from altcraft_async.ingest import FIELDS
from altcraft_async.settings.environment import Environment
from altcraft_async.shards.errors import ShardError, in_words
from altcraft_async.storage.places import Place

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = [
    "FROZEN",
    "MARK",
    "PRIVATE",
    "Plan",
    "ShardFile",
    "checksum_of",
    "foreign",
    "fresh_place",
    "name_of",
    "place_of",
    "read_plan",
    "shard_of",
    "write_plan",
]

PRIVATE: Final = "_altcraft"
"""Where all but the rows is; readers of directories pass over names that begin so."""
MARK: Final = f"{PRIVATE}/now"
"""An empty file, written to learn the time by the file system's clock."""
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
        """A checksum of the whole plan: its id and target, its files with their rows, and how these are read."""
        return _fingerprint(_said(self))

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a client, with the plan's target where it sets no address, nor its file does."""
        if self.target is None or Environment.read(given).base_url:
            return dict(given)
        return {**given, "ALTCRAFT_BASE_URL": self.target}

    def run_id(self, number: int) -> str:
        """Return the id of a shard's run, the same for all copies of it."""
        return str(uuid5(UUID(self.id), f"shard {number}"))

    def check_number(self, given: int, directory: str) -> int:
        """Return the number of a shard as a plain integer.

        Raises `ConfigurationError` for what is no whole number, and `ShardError` if there is no such shard.
        """
        if isinstance(given, bool) or not hasattr(given, "__index__"):
            msg = f"the number of a shard must be a whole number, not {given!r}; give one like 0"
            raise ConfigurationError(msg, field="number")
        number = operator.index(given)  # of numpy's too, which JSON does not know
        if not 0 <= number < len(self.shards):
            last = len(self.shards) - 1
            msg = f"{directory} has the shards 0 to {last}, and no shard {number}; give one of these numbers"
            raise ShardError(msg, directory=directory, shard=number)
        return number


def name_of(number: int, what: str) -> str:
    """Return the name of the file that has `what` of a shard."""
    return f"{PRIVATE}/{number:05}.{what}"


def shard_of(journal: str | os.PathLike[str]) -> tuple[str, int] | None:
    """Return the directory and number of the shard whose snapshot a file is by its name and place; None of others."""
    path = Path(journal).absolute()
    number = path.stem if path.suffix == ".journal" and path.stem.isdecimal() else ""
    if not number or path.parent.name != PRIVATE or not (path.parent.parent / _PLAN).is_file():
        return None
    return str(path.parent.parent), int(number)


def checksum_of(path: Path) -> str:
    """Return a checksum of a file on this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def foreign(place: Place, number: int, what: str) -> ShardError:
    """Return the error for a file of a shard that was written for another plan than the one that is there."""
    msg = (
        f"{place.path(name_of(number, what))} is of another plan than {_PLAN}, so rows may have been sent under other "
        f"ids, and would be sent a second time; put that plan back, or delete {PRIVATE} if nothing was sent"
    )
    return ShardError(msg, directory=place.address, shard=number)


def place_of(directory: str | os.PathLike[str]) -> Place:
    """Return a directory of shards; raises `ShardError` where its file system cannot be had."""
    with in_words(str(directory)):
        return Place(directory)


def fresh_place(directory: str | os.PathLike[str]) -> Place:
    """Return a directory in which there is no plan yet; raises `ShardError` if there is one, or a part of one."""
    place = place_of(directory)
    with in_words(place.address):
        if not place.has_container():  # or it would be made
            msg = f"the bucket of {place.address} is not there; correct the address, or create it"
            raise ShardError(msg, directory=place.address)
        place.tidy(f"{_PLAN}.")
        there = place.sizes(PRIVATE)
    if _PLAN.rpartition("/")[2] in there:
        msg = f"{place.address} has a plan already; deliver its shards, or give another directory"
        raise ShardError(msg, directory=place.address)
    if there:
        msg = (
            f"{place.path(PRIVATE)} has {min(there)} of an earlier plan, whose rows may have been sent; give another "
            f"directory, or delete {PRIVATE}"
        )
        raise ShardError(msg, directory=place.address)
    return place


def _said(plan: Plan) -> dict[str, Any]:
    return attrs.asdict(plan) | {"format": _FORMAT, "rows": plan.rows}


def _fingerprint(said: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


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
    said = _said(plan) | {"fingerprint": plan.fingerprint}
    place.write(_PLAN, json.dumps(said, indent=1, ensure_ascii=False).encode(errors="surrogatepass"))
    return plan


def read_plan(directory: str | os.PathLike[str] | Place) -> Plan:
    """Read the plan of a directory; raises `ShardError` if there is none that can be read."""
    place = directory if isinstance(directory, Place) else place_of(directory)
    try:
        said = json.loads(place.read(_PLAN))
        if said["format"] != _FORMAT:
            msg = f"the plan in {place.address} is of format {said['format']}, and this release knows {_FORMAT}"
            raise ShardError(msg, directory=place.address)
        fingerprint = said.pop("fingerprint")
        if fingerprint != _fingerprint(said):
            msg = f"the plan in {place.address} was changed since it was made; restore {_PLAN} as it was written"
            raise ShardError(msg, directory=place.address)
        shards = [ShardFile(**shard) for shard in said["shards"]]
        own = {field.name: said[field.name] for field in attrs.fields(Plan) if field.name != "shards"}
        return Plan(**own, shards=shards)
    except FileNotFoundError:
        msg = f"{place.address} has no plan; make one with plan_shards or adopt_shards (shards plan, shards adopt)"
        raise ShardError(msg, directory=place.address) from None
    except OSError:
        with in_words(place.address):
            raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        msg = f"the plan in {place.address} cannot be read; restore {_PLAN} as it was written"
        raise ShardError(msg, directory=place.address) from None


FROZEN: Final[Mapping[str, type]] = {
    "index": int, **dict.fromkeys(FIELDS, str), "request_id": str, "error": str, "error_field": str, "source": str,
    "line": int, "unit": str,
}  # fmt: skip
"""The columns of a frozen shard: the row's place in the input, what it says, and what is wrong with it."""

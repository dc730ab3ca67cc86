"""Files at any address: a path of this machine, or whatever fsspec knows, like ``s3://bucket/directory``."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from altcraft_async.errors import AltcraftError, ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import BinaryIO, Literal, Self, TypeAlias

    _Kind: TypeAlias = Literal["file", "directory", "pattern"]

__all__ = [
    "Place",
    "is_data",
    "is_readable",
    "is_remote",
    "matching",
    "open_file",
    "opener_of",
    "shown",
    "shown_in",
    "would_match",
]

_REMOTE = "://"
_MAGIC = frozenset("*?[")
_CACHES = re.compile(r"^(?:\w+::)+(?=\w+://)")
"""What an address may lead through and still be that of the same file."""
_PASSWORD = re.compile(r"(?<=://)([^/?#@:\[]*):(?!\d*(?:[/?#]|$))(?:[^/?#]*|.*)@", re.DOTALL)
"""The user and password of an address; also such a password as should have been escaped, but no port."""
_VALUE = re.compile(r"(?<=[?&])([^=&?/#]+)=[^&#]*?(?=[&#]|['\");,.:]*$)", re.DOTALL)
"""A parameter of an address; what may stand behind an address in a sentence is none of it."""
_LEFT_OUT = "***"
_FILLED = re.compile(r":\*\*\*@|=\*\*\*(?:[&#]|$)")
_HIDDEN = frozenset("_.")
_NEW = ".new"
_LEFT = re.compile(r"\.[0-9a-f]{8}\.new$")
"""The ends of the names of files that are being written, or were when their writer was killed."""
_MARKS = ("/", "_$folder$")
"""The ends of the names of empty objects that stand for directories in stores which have none."""


def is_remote(address: str | os.PathLike[str]) -> bool:
    """Say whether an address is one for fsspec, and no path."""
    return isinstance(address, str) and _REMOTE in address


def shown(address: str) -> str:
    """Return an address as it may be said and written: without a password, and without the values of its query."""
    if not is_remote(address):
        return address
    return _VALUE.sub(rf"\1={_LEFT_OUT}", _PASSWORD.sub(rf"\1:{_LEFT_OUT}@", address))


def shown_in(text: str, address: str = "") -> str:
    """Return a text with each address in it as `shown`; one with a blank in it must be given."""
    if not is_remote(text):
        return text
    said = text.replace(address, shown(address)) if address else text
    return re.sub(r"\S+://\S+", lambda found: shown(found[0]), said)


def opener_of(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for an address, and the path in it; all that goes wrong in it is an `OSError`.

    Raises `MissingExtraError` without fsspec or what it needs for the kind of address, and `ConfigurationError` for
    one that it does not know.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415 - an extra
    except ImportError:
        msg = f"{shown(address)} needs fsspec, which is not installed: pip install 'altcraft-async[arrow]'"
        raise MissingExtraError(msg) from None
    if not is_remote(address):  # in which :: is nothing special
        return _Worded(LocalFileSystem(), address), address
    if address.endswith(_REMOTE):  # a variable of the shell that is not set; else it would be the current directory
        msg = f"{address} has no path; give the whole address"
        raise ConfigurationError(msg)
    if _FILLED.search(address):
        msg = (
            f"{shown(address)} has {_LEFT_OUT} in the place of a secret, which no message says; write the secret there"
        )
        raise ConfigurationError(msg)
    with _worded(address):  # some connect when they are made
        try:
            files, path = url_to_fs(address)
        except ImportError as error:
            msg = f"{shown(address)} needs a library of its own for fsspec: {error}"
            raise MissingExtraError(msg) from None
        except ValueError as error:
            msg = f"{shown(address)} is no address that fsspec knows: {shown_in(str(error), address)}"
            raise ConfigurationError(msg) from None
    return _Worded(files, address), str(path)


@contextlib.contextmanager
def _worded(address: str) -> Iterator[None]:
    """Raise all that goes wrong in a file system as an `OSError` that names the address, without what is secret in it.

    Libraries of object stores have errors of their own: for credentials that are missing, for a store that is down.
    """
    try:
        yield
    except AltcraftError:
        raise
    except Exception as error:
        missing = isinstance(error, FileNotFoundError)
        named = missing or (isinstance(error, OSError) and error.filename is not None)
        if named and shown_in(str(error), address) == str(error):
            raise
        said = shown_in((getattr(error, "strerror", None) or str(error)).partition("\n")[0], address)
        number = errno.EACCES if isinstance(error, PermissionError) else getattr(error, "errno", None)
        number = number or (errno.ENOENT if missing else errno.EIO)
        raise OSError(number, f"{type(error).__name__}{said and ': '}{said}", shown(address)) from error


class _Worded:
    """A file system, or a file that one opened, whose errors are `_worded`."""

    __slots__ = ("_address", "_inner", "_owner")

    def __init__(self, inner: Any, address: str, owner: object = None) -> None:
        self._inner = inner
        self._address = address
        self._owner = owner  # an archive is closed with its last reference, and all of its files then

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Worded) and self._inner == other._inner

    __hash__ = None  # type: ignore[assignment]  # it is no key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._inner, name)
        return partial(self._call, name, found) if callable(found) else found

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with _worded(self._address):
            found = method(*args, **options)
        return _Worded(found, self._address, self._inner) if name == "open" else found


def open_file(address: str) -> BinaryIO:
    """Open a file to read; raises `OSError`."""
    if is_remote(address):
        files, path = opener_of(address)
        opened: BinaryIO = files.open(path, "rb")
        return opened
    return Path(address).open("rb")


def matching(address: str, suffixes: tuple[str, ...]) -> list[str] | None:
    """Return the addresses of the files in a directory, or that a pattern fits, in order; None for a single file.

    Of a directory those with one of the `suffixes`, at any depth; names that begin with ``_`` or ``.`` are no data.
    A link to a directory is a directory, unless it leads back to one that it is in. What is there and is no file, like
    a pipe, is returned too; see `is_readable`. The order is the same for a directory and a pattern, here and elsewhere:
    by the parts of their paths, as texts. A file or directory whose name has the letters of a pattern is no pattern.
    """
    files, path, kind = _meaning(address)
    if kind == "file":
        return None
    if kind == "pattern":
        _check_pattern(_parts(path))
    if files is None:
        there = Path(path)
        found = [str(file) for file in (_globbed(there) if kind == "pattern" else _files_in(there))]
    else:
        entries = (files.glob if kind == "pattern" else files.find)(path, detail=True)
        found = [name for name, entry in entries.items() if entry["type"] != "directory" and not _is_mark(entry)]
    if kind == "directory":
        above = len(_parts(path))
        found = [name for name in found if is_data("/".join(_parts(name)[above:]), suffixes)]
    return [_address_of(address, path, name) for name in sorted(found, key=_parts)]


def would_match(address: str, directory: str, names: Iterable[str]) -> bool:
    """Say whether `matching` would give a file with one of the `names` in a directory, once it is there."""
    files, path, kind = _meaning(_CACHES.sub("", address))
    others, there, _ = _meaning(_CACHES.sub("", directory))
    if kind == "file" or files != others:
        return False
    parts = _parts(path)
    literal = len(parts)
    if kind == "pattern":
        literal = next(number for number, part in enumerate(parts) if _MAGIC & set(part))
    start, pattern, target = parts[:literal], parts[literal:], _parts(there)
    if files is None:
        start, target = (_parts(os.path.realpath(Path(*one))) for one in (start, target))
    if target[: len(start)] != start:
        return False
    within = target[len(start) :]
    if kind == "pattern":
        return any(_fits((*within, *name.split("/")), pattern) for name in names)
    return any(is_data("/".join((*within, name)), ("",)) for name in names)


def _meaning(address: str) -> tuple[Any, str, _Kind]:
    """Return the file system of an address, None for this machine's, the path in it, and what is meant by that."""
    files, path = opener_of(address) if is_remote(address) else (None, address)
    if files is None or _is_here(files):
        files, here = None, Path(path)
        is_file, is_directory = here.exists() and not here.is_dir(), here.is_dir()
    else:
        files.invalidate_cache()
        is_file = files.isfile(path)
        is_directory = not is_file and files.isdir(path)
    if is_directory:
        return files, path, "directory"
    return files, path, "file" if is_file or not _MAGIC & set(path) else "pattern"


def _globbed(there: Path) -> list[Path]:
    parts = there.relative_to(there.anchor).parts
    depth = parts.index("**") if "**" in parts else len(parts)
    start, rest = Path(there.anchor or ".", *parts[:depth]), parts[depth:]
    starts = list(Path(there.anchor or ".").glob("/".join(parts[:depth]))) if depth else [start]
    if not rest:
        return [path for path in starts if not path.is_dir()]
    within = ((above, path) for above in starts if above.is_dir() for path in _files_in(above, hidden=True))
    return [path for above, path in within if _fits(path.relative_to(above).parts, rest)]


def _check_pattern(parts: Iterable[str]) -> None:
    if any("**" in part for part in parts if part != "**"):
        msg = "** is a part of a name in it"
        raise ValueError(msg)


def _files_in(directory: Path, above: frozenset[str] = frozenset(), *, hidden: bool = False) -> Iterator[Path]:
    """Yield all that is no directory, at any depth; below directories with a `hidden` name only if it is asked for.

    `above` has the real paths of the directories that this one is in.
    """
    real = os.path.realpath(directory)
    if real in above:
        return
    for path in directory.iterdir():
        if not path.is_dir():
            yield path
        elif hidden or path.name[:1] not in _HIDDEN:
            yield from _files_in(path, above | {real}, hidden=hidden)


def _fits(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def is_readable(address: str) -> bool:
    """Say whether an address is that of a file, as far as it shows without opening it: a pipe would hang."""
    path = address.removeprefix("file://")
    return is_remote(path) or Path(path).is_file()


def _is_here(files: Any) -> bool:
    """Say whether a file system of fsspec is this machine's."""
    return "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)


def _address_of(address: str, path: str, name: str) -> str:
    """Return the address of the file whose path is `name`, by an address of the same file system and its `path`.

    What is said in the address beside the path stays: a host, the archive or the cache that it leads through.
    """
    if not is_remote(address):
        return name
    parts, path = address.split("::"), path.strip("/")
    at = next(number for number, part in enumerate(parts) if _REMOTE in part) if path else 0  # caches have no path
    kind, _, said = parts[at].partition(_REMOTE)
    host = said.rstrip("/").removesuffix(path) if path else f"{said.rstrip('/')}/".lstrip("/")
    if not path or f"/{said}".rstrip("/").endswith(f"/{path}"):
        name = host + name.lstrip("/")
    parts[at] = name if _REMOTE in name else f"{kind}{_REMOTE}{name}"
    return "::".join(parts)


def _is_mark(entry: Mapping[str, Any]) -> bool:
    """Say whether an object stands for a directory."""
    return not entry["size"] and str(entry["name"]).endswith(_MARKS)


def _parts(path: str) -> tuple[str, ...]:
    return Path(path).parts


def is_data(name: str, suffixes: tuple[str, ...]) -> bool:
    """Say whether a file of a directory is one of the `suffixes`, and its name is not that of something else."""
    hidden = any(part[:1] in _HIDDEN for part in Path(name.lstrip("/")).parts)
    return name.lower().endswith(suffixes) and not hidden and _LEFT.search(name) is None


@contextlib.contextmanager
def _replaced(path: str) -> Iterator[Path]:
    """Give a file to write, which then takes the place of that at `path`; after an error nothing of it is left."""
    new = Path(f"{path}.{uuid4().hex[:8]}{_NEW}")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


class Place:
    """A directory in which small files are read and written whole; its methods block.

    `address` is a path, or an address for fsspec as it may be said, and `to_open` with the secrets that it has. A file
    that is written replaces the one of before at once, where the file system can do that; object stores can. All raise
    `OSError`, `read` and `fetch` `FileNotFoundError`.
    """

    __slots__ = ("_files", "_replaces", "_root", "address", "to_open")

    def __init__(self, address: str | os.PathLike[str]) -> None:
        if not os.fspath(address):  # a variable of the shell that is not set; else it would be the current directory
            msg = "the directory has no name; give a path, or . for the current one"
            raise ConfigurationError(msg, field="directory")
        self.to_open = os.fspath(address) if is_remote(address) else str(Path(address).absolute())
        self.address = shown(self.to_open)
        if "\0" in self.address:
            msg = f"{self.address!r} is no directory: a path has no NUL character; give another"
            raise ConfigurationError(msg, field="directory")
        self._files, root = opener_of(self.to_open)
        self._root = root.rstrip("/")
        self._replaces = _is_here(self._files)

    def __repr__(self) -> str:
        """Show the address."""
        return f"<Place {self.address}>"

    def has_container(self) -> bool:
        """Say whether the bucket or container is there that its address begins with; true where there are none."""
        container = "" if is_remote(self._root) else self._root.partition("/")[0]  # of HTTP the path is the address
        try:
            return not container or bool(self._files.info(container))
        except FileNotFoundError:
            return False
        except OSError:  # whoever may use a part of a bucket only is refused; what else it is shows at that part
            return True

    def path(self, name: str) -> str:
        """Return the whole address of a file, as it may be said."""
        return shown(_address_of(self.to_open, self._root, f"{self._root}/{name}"))

    def read(self, name: str) -> bytes:
        """Return what a file holds."""
        content: bytes = self._files.cat_file(self._there(name))
        return content

    def _there(self, name: str) -> str:
        """Return the path of a file that others may just have written; fsspec forgets the listing of its directory."""
        path = f"{self._root}/{name}"
        self._files.invalidate_cache(path.rpartition("/")[0])
        return path

    def _to_write(self, name: str) -> str:
        """Return the path of a file that is written next, and make its directory where there are any."""
        path = f"{self._root}/{name}"
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        except OSError:
            if self._replaces:
                raise  # a store refuses even to look whether the bucket is there, and takes the file
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self._to_write(name)
        if not self._replaces:
            self._files.pipe_file(path, content)
            return
        with _replaced(path) as new:
            new.write_bytes(content)

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file to this machine; an error of this machine's disk has the name of `target`."""
        with self._files.open(self._there(name), "rb") as file, target.open("wb", buffering=0) as copy:
            while block := file.read(1 << 20):
                try:
                    while block:  # a disk that is nearly full takes a part
                        block = block[copy.write(block) :]
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(target)) from error

    def put(self, source: Path, name: str) -> None:
        """Copy a file of this machine there."""
        path = self._to_write(name)
        with (
            source.open("rb") as file,
            _replaced(path) if self._replaces else contextlib.nullcontext(path) as new,
            self._files.open(str(new), "wb") as copy,
        ):
            while block := file.read(1 << 20):
                copy.write(block)

    def version(self, name: str) -> str | None:
        """Return what tells a file from one that was written in its place; None where there is none."""
        try:
            return str(self._files.ukey(self._there(name)))
        except FileNotFoundError:
            return None

    def tidy(self, start: str) -> None:
        """Remove what processes left that were killed while they wrote files whose names begin with `start`.

        One that is still at it fails with an `OSError`. What cannot be removed stays.
        """
        if self._replaces:
            path = Path(f"{self._root}/{start}")
            for left in path.parent.glob(f"{glob.escape(path.name)}*{'[0-9a-f]' * 8}{_NEW}"):
                with contextlib.suppress(OSError):
                    left.unlink()

    def sizes(self, directory: str = "") -> Mapping[str, int]:
        """Return the names of the files in a directory of it, and their sizes in bytes; none where there is none.

        A symbolic link to a file is a file; one that is being written is none. Raises `NotADirectoryError` for a file.
        """
        return {name: int(entry["size"] or 0) for name, entry in self._entries(directory).items()}

    def stamps(self, directory: str = "") -> Mapping[str, str]:
        """Return for each name of `sizes` what the file system lists of it: that differs when it is written anew."""
        return {name: str(sorted(entry.items())) for name, entry in self._entries(directory).items()}

    def _entries(self, directory: str) -> Mapping[str, Mapping[str, Any]]:
        path = f"{self._root}/{directory}".rstrip("/")
        self._files.invalidate_cache(path)  # others write there
        try:
            found = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        if [str(entry["name"]) for entry in found if entry["type"] == "file"] == [path]:
            raise NotADirectoryError(errno.ENOTDIR, "It is a file, and no directory", self.path(directory))
        return {
            str(entry["name"]).rpartition("/")[2]: entry
            for entry in found
            if _LEFT.search(str(entry["name"])) is None
            and not _is_mark(entry)
            and (entry["type"] == "file" or (entry.get("islink") and Path(entry["name"]).is_file()))
        }

    def ages(self, names: Iterable[str], mark: str) -> dict[str, float]:
        """Return how many seconds ago files were written, of those of which the file system says it.

        Its own clock says it, and no machine's: the file `mark` is written now, and compared with them.
        """
        wanted = list(names)
        if not wanted:
            return {}
        try:
            self.write(mark, b"")
            now = self._files.modified(self._there(mark))
        except (OSError, NotImplementedError):  # it is there to be read only, or does not know
            return {}
        found: dict[str, float] = {}
        for name in wanted:
            with contextlib.suppress(OSError):
                found[name] = (now - self._files.modified(self._there(name))).total_seconds()
        return found

    def remove(self, name: str) -> None:
        """Delete a file, and what was left of it; harmless where there is none."""
        self.tidy(f"{name}.")
        path = f"{self._root}/{name}"
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return

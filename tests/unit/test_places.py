"""A place reads what is there now, whatever fsspec remembers of it."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from altcraft_async import ConfigurationError
from altcraft_async.ingest import FIELDS, InputError, read_updates
from altcraft_async.shards import ShardError, deliver_shard, plan_shards, report
from altcraft_async.storage.places import Place, _address_of, matching, open_file, opener_of

fsspec = pytest.importorskip("fsspec")
memory = pytest.importorskip("fsspec.implementations.memory")


class Remembering(memory.MemoryFileSystem):
    """Looks into the listings that it remembers before it reads, as the file system of S3 does."""

    protocol = "remembering"
    store: dict[str, object] = {}  # noqa: RUF012 - as the parent has it
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("remembering://"))

    def ls(self, path, detail=True, **kwargs):  # noqa: FBT002
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True, **kwargs)
        return self.dircache[path] if detail else [entry["name"] for entry in self.dircache[path]]

    def _is_known_to_miss(self, path):
        path = self._strip_protocol(path)
        remembered = self.dircache.get(self._parent(path)) if self._parent(path) in self.dircache else None
        return remembered is not None and path not in {entry["name"] for entry in remembered}

    def open(self, path, mode="rb", **kwargs):
        if mode == "rb" and self._is_known_to_miss(path):
            raise FileNotFoundError(path)
        return super().open(path, mode, **kwargs)

    def cat_file(self, path, **kwargs):
        if self._is_known_to_miss(path):
            raise FileNotFoundError(path)
        return super().cat_file(path, **kwargs)

    def invalidate_cache(self, path=None):
        if path is None:
            self.dircache.clear()
        else:
            self.dircache.pop(self._strip_protocol(path), None)


@pytest.fixture
def files():
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    found = fsspec.filesystem("remembering")
    yield found
    found.store.clear()
    found.invalidate_cache()


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_a_stamp_differs_when_a_file_is_written_anew(kind, tmp_path):
    place = Place(tmp_path if kind == "path" else f"memory://stamps-{tmp_path.name}")
    place.write("inner/a", b"1")
    place.write("inner/b", b"1")
    before = place.stamps("inner")
    assert place.stamps("inner") == before
    place.write("inner/a", b"2")
    after = place.stamps("inner")
    assert (before["a"] == after["a"], before["b"] == after["b"]) == (False, True)


def test_what_others_have_written_since_a_listing_is_read(files, tmp_path):
    place = Place("remembering://job")
    place.write("inner/first", b"1")
    assert set(place.sizes("inner")) == {"first"}
    files.store["/job/inner/second"] = memory.MemoryFile(files, "/job/inner/second", b"2")  # as another machine does
    assert set(place.sizes("inner")) == {"first", "second"}
    files.store["/job/inner/third"] = memory.MemoryFile(files, "/job/inner/third", b"3")
    assert place.read("inner/third") == b"3"
    assert set(place.sizes("inner")) == {"first", "second", "third"}
    files.store["/job/inner/fourth"] = memory.MemoryFile(files, "/job/inner/fourth", b"4")
    place.fetch("inner/fourth", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"4"


class NoCredentialsFoundError(Exception):
    """What the library of an object store raises, which is no `OSError`."""


class Locked(memory.MemoryFileSystem):
    """Has no credentials, or after it was asked to, loses them."""

    protocol = "locked"
    store: dict[str, object] = {}  # noqa: RUF012 - as the parent has it
    pseudo_dirs = [""]  # noqa: RUF012
    error: Exception = NoCredentialsFoundError("Unable to locate credentials\nand more")

    def _refuse(self, *_args, **_options):
        raise self.error

    isfile = isdir = ls = cat_file = pipe_file = rm_file = find = glob = info = open = makedirs = _refuse


@pytest.fixture
def locked():
    fsspec.register_implementation("locked", Locked, clobber=True)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    "error", [NoCredentialsFoundError("Unable to locate credentials"), PermissionError("Forbidden")]
)
def test_an_error_of_a_store_is_an_oserror_that_names_the_address(monkeypatch, tmp_path, error):
    monkeypatch.setattr(Locked, "error", error)
    place = Place("locked://bucket/z")
    calls = (
        lambda: place.read("a"),
        lambda: place.write("a", b""),
        lambda: place.fetch("a", tmp_path / "a"),
        place.sizes,
        lambda: place.remove("a"),
        lambda: open_file("locked://bucket/z"),
    )
    for call in calls:
        with pytest.raises(OSError, match=type(error).__name__) as raised:
            call()
        assert raised.value.filename.startswith("locked://bucket/z")
        assert str(error) in raised.value.strerror


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("error", [ValueError("write() requires mode w"), IndexError("3"), TypeError("no such option")])
def test_what_a_file_system_does_wrong_is_an_oserror_too(monkeypatch, error):
    monkeypatch.setattr(Locked, "error", error)
    with pytest.raises(OSError, match=f"{type(error).__name__}: {error}".replace("(", r"\(").replace(")", r"\)")):
        Place("locked://bucket/z").write("a", b"")
    with pytest.raises(InputError, match=f"locked://bucket/a cannot be looked at: {type(error).__name__}"):
        read_updates("locked://bucket/a")


class LoginError(Exception):
    """What a library raises that connects when its file system is made."""


class Refusing(memory.MemoryFileSystem):
    """Cannot even be made."""

    protocol = "refusing"
    cachable = False

    def __init__(self, **_):
        msg = "530 Login incorrect"
        raise LoginError(msg)


def test_a_file_system_that_cannot_be_made_is_an_error_that_names_the_address():
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    with pytest.raises(OSError, match="LoginError: 530 Login incorrect: 'refusing://host/a'"):
        open_file("refusing://host/a")
    with pytest.raises(InputError, match="refusing://host/a cannot be looked at: LoginError: 530 Login incorrect"):
        read_updates("refusing://host/a")
    for call in (report, lambda place: plan_shards([], place, shards=1), lambda place: deliver_shard(place, 0)):
        with pytest.raises(ShardError, match=r"refusing://host/a cannot be read or written .*530 Login incorrect"):
            call("refusing://host/a")


class OfOneTeam(memory.MemoryFileSystem):
    """Has a bucket of which only a part may be used, as a policy of S3 says it, or whose store is down."""

    protocol = "ofoneteam"
    store: dict[str, object] = {}  # noqa: RUF012 - as the parent has it
    pseudo_dirs = [""]  # noqa: RUF012
    error: Exception | None = None

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("ofoneteam://"))

    def info(self, path, **kwargs):
        if self.error is not None:
            raise self.error
        if path == "bucket":
            raise PermissionError(13, "Access Denied")
        return super().info(path, **kwargs)

    def makedirs(self, path, exist_ok=False):  # noqa: FBT002
        del path, exist_ok
        raise PermissionError(13, "Access Denied")

    def ls(self, path, detail=True, **kwargs):  # noqa: FBT002
        if self.error is not None:
            raise self.error
        return super().ls(path, detail, **kwargs)


def test_a_part_of_a_bucket_is_enough(monkeypatch):
    fsspec.register_implementation("ofoneteam", OfOneTeam, clobber=True)
    monkeypatch.setattr("altcraft_async.storage.places.opener_of", opener_without_slash)
    assert plan_shards([("o", "l", "new")], "ofoneteam://bucket/team/run", shards=1).rows == 1
    assert report("ofoneteam://bucket/team/run").rows == 1
    monkeypatch.setattr(OfOneTeam, "error", NoCredentialsFoundError("Unable to locate credentials"))
    with pytest.raises(ShardError, match="NoCredentialsFoundError: Unable to locate credentials"):
        plan_shards([("o", "l", "new")], "ofoneteam://bucket/team/run", shards=1)


def opener_without_slash(address):
    """Return a file system and a path as that of S3 has it: beginning with the bucket."""
    files, path = opener_of(address)
    return files, path.lstrip("/")


def archive(path):
    content = io.BytesIO()
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pytest.importorskip("pyarrow").table({field: ["x"] for field in FIELDS}), content)
    files = dict.fromkeys(("d/a.parquet", "d/b.parquet"), content.getvalue())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, said in files.items():
                packed.writestr(name, said)
    else:
        with tarfile.open(path, "w") as packed:
            for name, said in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(said)
                packed.addfile(entry, io.BytesIO(said))


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(("inside", "rows"), [("d/a.parquet", 1), ("d", 2), ("d/*.parquet", 2), ("**/*.parquet", 2)])
def test_a_file_or_a_pattern_in_an_archive_is_read(tmp_path, kind, inside, rows):
    archive(tmp_path / f"a.{kind}")
    with read_updates(f"{kind}://{inside}::file://{tmp_path}/a.{kind}") as found:
        assert len(list(found)) == rows


def test_text_at_an_address_is_refused_in_words(tmp_path):
    (tmp_path / "in.csv").write_text(",".join(FIELDS) + "\no,l,new\n")
    with pytest.raises(InputError, match="is neither Parquet nor Arrow, and nothing else is read from an address"):
        read_updates(f"file://{tmp_path}/in.csv")


@pytest.mark.parametrize(
    ("address", "path", "name", "expected"),
    [
        ("memory://a/b", "/a/b", "/a/b/c", "memory://a/b/c"),
        ("memory://", "", "/c", "memory://c"),
        ("file:///tmp/a/", "/tmp/a", "/tmp/a/c", "file:///tmp/a/c"),
        ("file://rel", "/x/rel", "/x/rel/c", "file:///x/rel/c"),
        ("s3://b", "b", "b/c", "s3://b/c"),
        ("s3://b/k/", "b/k", "b/k/c", "s3://b/k/c"),
        ("ftp://me@host:21/x", "/x", "/x/y", "ftp://me@host:21/x/y"),
        ("ftp://host/", "/", "/y", "ftp://host/y"),
        ("http://host/d", "http://host/d", "http://host/d/x", "http://host/d/x"),
        ("abfs://c@account.net/d", "c/d", "c/d/x", "abfs://c/d/x"),
        ("abfs://t@account.net", "t", "t/x", "abfs://t/x"),
        ("zip://d::file:///a.zip", "d", "d/p", "zip://d/p::file:///a.zip"),
        ("zip://::file:///a.zip", "", "d/p", "zip://d/p::file:///a.zip"),
        ("zip::file:///a.zip", "", "d/p", "zip://d/p::file:///a.zip"),
        ("simplecache::s3://b/*.pq", "b/*.pq", "b/a.pq", "simplecache::s3://b/a.pq"),
        ("/a::b", "/a::b", "/a::b/c", "/a::b/c"),
    ],
)
def test_a_found_file_has_all_that_its_address_says(address, path, name, expected):
    assert _address_of(address, path, name) == expected


@pytest.mark.usefixtures("locked")
def test_an_input_in_a_store_without_credentials_is_refused_in_words():
    with pytest.raises(
        InputError, match="locked://bucket/a cannot be looked at: NoCredentialsFoundError: Unable to loc"
    ):
        read_updates("locked://bucket/a")


def test_a_read_that_a_store_breaks_off_is_an_oserror(files, monkeypatch):
    files.pipe("/place/a", b"1")
    file = open_file("remembering://place/a")

    def fails(*_):
        msg = "gone"
        raise NoCredentialsFoundError(msg)

    with file:
        monkeypatch.setattr(memory.MemoryFile, "read", fails, raising=False)
        with pytest.raises(OSError, match="NoCredentialsFoundError: gone"):
            file.read(1)


def test_a_file_that_cannot_be_copied_whole_leaves_nothing_of_it(tmp_path, monkeypatch):
    place = Place(tmp_path / "there")
    place.write("a", b"before")
    source = tmp_path / "source"
    source.write_bytes(b"x" * 10)

    def replace(*_):
        msg = "No space left on device"
        raise OSError(28, msg)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        place.put(source, "a")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a"]
    assert place.read("a") == b"before"


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    place = Place(tmp_path)
    for name in ("00001.journal.0a1b2c3d.new", "00001.lease.json.0a1b2c3d.new", "00012.journal.0a1b2c3d.new", "a.new"):
        (tmp_path / name).write_bytes(b"")
    place.write("00001.journal", b"")
    place.tidy("00001.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.journal", "00012.journal.0a1b2c3d.new", "a.new"]
    place.remove("00012.journal")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.journal", "a.new"]


def test_a_link_to_a_file_is_a_file_and_a_broken_one_is_none(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "broken").symlink_to(tmp_path / "elsewhere" / "b")
    assert Place(tmp_path).sizes() == {"link": 7}
    assert Place(tmp_path).read("link") == b"content"


def test_two_colons_in_a_path_are_nothing_special(tmp_path):
    place = Place(tmp_path / "run::1")
    place.write("a", b"content")
    assert (tmp_path / "run::1" / "a").read_bytes() == b"content"
    assert place.sizes() == {"a": 7}


def test_a_path_that_cannot_be_one_is_a_mistake_of_the_settings():
    with pytest.raises(ConfigurationError, match="a path has no NUL character"):
        Place("/tmp/\0")


def test_a_file_of_the_users_that_is_called_new_is_a_file(tmp_path):
    for name in ("a.new", "b.parquet.new", "c.0a1b2c3d.new"):
        (tmp_path / name).write_bytes(b"x")
    assert Place(tmp_path).sizes() == {"a.new": 1, "b.parquet.new": 1}
    assert matching(str(tmp_path), ("",)) == [f"{tmp_path}/a.new", f"{tmp_path}/b.parquet.new"]


def test_a_file_in_the_place_of_a_directory_has_no_files(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError):
        Place(tmp_path).sizes("file")


def test_marks_of_directories_in_a_store_are_no_files():
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pipe({"/marks/a": b"x", "/marks/sub_$folder$": b"", "/marks/full_$folder$": b"x"})
    assert Place("memory://marks").sizes() == {"a": 1, "full_$folder$": 1}
    for source in ("memory://marks", "memory://marks/*"):
        assert [name.rpartition("/")[2] for name in matching(source, ("",))] == ["a", "full_$folder$"]


def test_a_version_tells_a_file_from_one_in_its_place(tmp_path):
    for place in (Place(tmp_path), Place(f"memory://versions-{id(tmp_path)}")):
        assert place.version("a") is None
        place.write("a", b"one")
        first = place.version("a")
        assert place.version("a") == first is not None
        place.write("a", b"two")
        assert place.version("a") != first


def test_an_error_of_this_machines_disk_names_the_file_here(tmp_path):
    place = Place(tmp_path)
    place.write("a", b"content")
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/full'"):
        place.fetch("a", tmp_path / "full")

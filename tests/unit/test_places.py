"""A place reads what is there now, whatever fsspec remembers of it."""

from __future__ import annotations

import pytest

from altcraft_async.storage.places import Place

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

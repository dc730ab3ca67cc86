"""What is secret in an address is used to open it, and is neither said nor written."""

from __future__ import annotations

import io
import json
import logging

import pytest

from altcraft_async import AltcraftError, ConfigurationError, InvalidUpdateError
from altcraft_async.cli.talk import complain, shell
from altcraft_async.ingest import FIELDS, InputError, read_updates
from altcraft_async.shards import ShardError, plan_shards, read_plan, report, run_shards
from altcraft_async.storage.places import Place, matching, open_file, opener_of, shown, shown_in

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")
memory = pytest.importorskip("fsspec.implementations.memory")

SECRET = "s3cr3t"
ADDRESS = f"vault://user:{SECRET}@host/in/a.parquet?sig={SECRET}&part=1"
SHOWN = "vault://user:***@host/in/a.parquet?sig=***&part=***"


class Vault(memory.MemoryFileSystem):
    """Is opened only by who knows the secret, and says all that it was asked in its errors."""

    protocol = "vault"
    store: dict[str, object] = {}  # noqa: RUF012 - as the parent has it
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False

    def __init__(self, asked="", **options):
        super().__init__(**options)
        self.asked = asked

    @staticmethod
    def _get_kwargs_from_urls(path):
        if f":{SECRET}@" not in path:
            message = f"who are you? {path}"
            raise PermissionError(message)
        return {"asked": path.partition("@host")[0] + "@host"}

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.partition("@host")[2].partition("?sig")[0] or path)

    def _open(self, path, mode="rb", **options):
        if mode == "rb" and not self.exists(path):
            raise FileNotFoundError(self.asked)
        if mode == "rb" and path.endswith("broken.parquet"):
            message = f"403, url={self.asked!r}"
            raise RuntimeError(message)
        return super()._open(path, mode, **options)


@pytest.fixture
def vault():
    fsspec.register_implementation("vault", Vault, clobber=True)
    sink = io.BytesIO()
    rows = [("o", "l", "delivered"), (None, "l", "delivered")]
    pq.write_table(pa.table(dict(zip(FIELDS, map(list, zip(*rows, strict=True)), strict=True))), sink)
    files = Vault()
    for name in ("a", "b", "broken"):
        files.pipe(f"/in/{name}.parquet", sink.getvalue())
    yield files
    Vault.store.clear()
    Vault.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (ADDRESS, SHOWN),
        ("sftp://user@host:2222/dir/a@b", "sftp://user@host:2222/dir/a@b"),
        ("http://host:8080/a@b.parquet", "http://host:8080/a@b.parquet"),
        ("http://[::1]:8080/a@b.parquet", "http://[::1]:8080/a@b.parquet"),
        ("http://:pw@host/x", "http://:***@host/x"),
        ("http://user:1234@host/x", "http://user:***@host/x"),
        ("http://user:a/b?c#d@host/x", "http://user:***@host/x"),
        ("http://user:p@w@host/x?mail=a@b", "http://user:***@host/x?mail=***"),
        ("http://h/My file.parquet?token=a b", "http://h/My file.parquet?token=***"),
        ("simplecache::http://u:pw@h/x?sig=a%2Fb=", "simplecache::http://u:***@h/x?sig=***"),
        ("s3://bucket/day=2026-01-0?/*.parquet", "s3://bucket/day=2026-01-0?/*.parquet"),
        ("s3://bucket/day-?/hour=1/*.parquet", "s3://bucket/day-?/hour=1/*.parquet"),
        ("data/user:pw@host?x=1", "data/user:pw@host?x=1"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, said):
    assert shown(address) == said
    assert shown(said) == said


def test_an_address_in_a_sentence_is_shown_without_its_secrets():
    said = shown_in(f"403, url='{ADDRESS}'; check {ADDRESS}, or http://h/a b?c=d it", "http://h/a b?c=d")
    assert said == f"403, url='{SHOWN}'; check {SHOWN}, or http://h/a b?c=*** it"


def test_rows_and_their_errors_name_their_input_without_secrets(vault):
    with read_updates(ADDRESS) as reader:
        _, wrong = list(reader)
        assert isinstance(wrong, InvalidUpdateError)
        assert (reader.source, wrong.source) == (SHOWN, SHOWN)
        assert SECRET not in f"{reader!r} {wrong}"
    with read_updates(f"vault://user:{SECRET}@host/in/[ab].parquet") as reader:
        sources = [row.source for row in reader if isinstance(row, InvalidUpdateError)]
    assert sources == ["vault://user:***@host/in/a.parquet", "vault://user:***@host/in/b.parquet"]


@pytest.mark.parametrize("name", ["missing.parquet?sig=s3cr3t", "broken.parquet?sig=s3cr3t", "", "*.none"])
@pytest.mark.parametrize("wrong", [False, True])
def test_errors_of_an_input_are_without_secrets(vault, name, wrong):
    secret = f"{SECRET}-2" if wrong else SECRET
    with pytest.raises(InputError) as raised:
        read_updates(f"vault://user:{secret}@host/in/{name}")
    assert SECRET not in f"{raised.value} {raised.value.source}"
    assert "vault://user:***@host/in/" in str(raised.value)


@pytest.mark.parametrize("use", [opener_of, open_file, lambda address: matching(address, ("",)), Place])
def test_errors_of_a_store_are_without_secrets(vault, use):
    address = f"vault://user:{SECRET}-2@host/in/broken.parquet?sig={SECRET}"
    with pytest.raises(OSError, match=r"vault://user:\*\*\*@host") as raised:
        use(address)
    assert SECRET not in f"{raised.value} {raised.value.filename}"


@pytest.mark.parametrize("address", [ADDRESS, "vault://user:***@host/x", "vault://x?sig=***"])
def test_an_address_as_it_was_shown_is_refused(vault, address):
    with pytest.raises(ConfigurationError, match=r"has \*\*\* in the place of a secret.*; write the secret there"):
        opener_of(shown(address))


def test_nothing_of_shards_has_the_secret(vault, caplog):
    caplog.set_level(logging.DEBUG)
    directory = f"vault://user:{SECRET}@host/run"
    plan = plan_shards(ADDRESS, directory, shards=2)
    assert (plan.rows, read_plan(directory)) == (2, plan)
    told = report(directory)
    assert (told.directory, Place(directory).address) == ("vault://user:***@host/run",) * 2
    assert Place(directory).to_open == directory
    with pytest.raises(ShardError, match="has a plan already") as again:
        plan_shards(ADDRESS, directory, shards=2)
    with pytest.raises(ShardError, match="is within the input") as within:
        plan_shards(f"vault://user:{SECRET}@host/in", f"vault://user:{SECRET}@host/in/run", shards=2)
    with pytest.raises(ShardError, match="has no plan") as none:
        read_plan(f"vault://user:{SECRET}@host/none")
    with pytest.raises(AltcraftError) as other:
        run_shards(f"vault://user:{SECRET}@host/none", processes=1)
    written = b"".join(vault.cat(vault.find("/run")).values())
    errors = [again.value, within.value, none.value, other.value]
    said = [json.dumps(told.to_dict()), caplog.text, *map(str, errors), *(error.directory for error in errors)]
    assert SECRET not in f"{said} {written!r}"


def test_a_command_and_a_complaint_are_without_secrets(capsys):
    assert shell(["sync", ADDRESS]) == f"sync '{SHOWN}'"
    complain(f"Error: {ADDRESS}: it is gone")
    assert capsys.readouterr().err == f"Error: {SHOWN}: it is gone\n"

"""``orders …``, ``products …`` and ``skus …``: JSON lines in and out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from altcraft_async.sandbox import Readings, ThreadedSandbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from conftest import CommandLine

    Here = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

PREORDER = {
    "endpoint": "shop",
    "status": "new",
    "currency": "RUB",
    "total_price": "2500.00",
    "lines": [{"external_id": "l", "sku": "s"}],
}


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def goods(sandbox: ThreadedSandbox) -> ThreadedSandbox:
    sandbox.import_rows("products", [{"external_id": f"p{number}", "name": "Товар"} for number in range(3)])
    sandbox.import_rows("sku", [{"external_id": "s", "name": "S", "product_external_id": "p1"}])
    return sandbox


def test_orders_are_listed_as_json_lines(here: Here, sandbox: ThreadedSandbox) -> None:
    ended = here("orders", "list", "--limit", "7")
    assert ended.returncode == 0
    listed = rows(ended.stdout)
    assert [order["external_id"] for order in listed][:2] == ["order_1", "order_2"]
    assert listed[0]["lines"] == [
        {"external_id": "line_1_1", "currency": "RUB"},
        *({"external_id": f"line_1_{number}", "currency": "RUB"} for number in range(2, len(listed[0]["lines"]) + 1)),
    ]
    assert here("orders", "list", "--endpoint", "nowhere").stdout == ""


def test_a_list_that_the_platform_cuts_exits_with_2(here: Here, command: CommandLine) -> None:
    with ThreadedSandbox(token=command.environ["ALTCRAFT_TOKEN"], readings=Readings(cursor=False)) as cut:
        cut.seed_orders(3)
        cut.import_rows("products", [{"external_id": f"p{number}", "name": "P"} for number in range(3)])
        skus = [{"external_id": f"s{number}", "name": "S", "product_external_id": "p"} for number in range(3)]
        cut.import_rows("sku", skus)
        for group in ("orders", "products", "skus"):
            ended = here(group, "list", "--limit", "3", ALTCRAFT_BASE_URL=cut.base_url)
            assert (ended.returncode, len(rows(ended.stdout))) == (2, 3)
            assert "there may be more; ask with a larger limit; what was written is not the whole list" in ended.stderr
            assert here(group, "list", "--limit", "4", ALTCRAFT_BASE_URL=cut.base_url).returncode == 0


def test_a_list_that_cannot_be_had_says_why(here: Here) -> None:
    ended = here("orders", "list", ALTCRAFT_TOKEN="wrong")
    assert (ended.returncode, ended.stdout) == (4, "")
    assert "check the token" in ended.stderr
    assert "not the whole list" in ended.stderr


def test_the_status_of_orders_is_given_in_their_order(here: Here) -> None:
    ended = here("orders", "get-status", "order_2", "nobody", "-", stdin=b'order_1\n\n{"id": 3}\n')
    assert ended.returncode == 2
    told = rows(ended.stdout)
    assert [row.get("external_id", row.get("id")) for row in told] == ["order_2", "nobody", "order_1", 3]
    assert told[0] == {"external_id": "order_2", "status": "new", "endpoint": "sandbox"}
    assert "there is no such order" in str(told[1]["error"])


def test_orders_are_deleted_and_each_has_its_row(here: Here, sandbox: ThreadedSandbox) -> None:
    ended = here("orders", "delete", "--id", "1", "2")
    assert (ended.returncode, rows(ended.stdout)) == (0, [{"id": 1, "deleted": True}, {"id": 2, "deleted": True}])
    assert not sandbox.has("orders", "order_1")
    assert sandbox.has("orders", "order_3")


def test_a_refused_token_ends_it_at_once(here: Here) -> None:
    ended = here("orders", "get-status", "-", stdin=b"order_1\n" * 1000, ALTCRAFT_TOKEN="wrong")
    assert ended.returncode == 4
    assert len(rows(ended.stdout)) <= 200


def test_preorders_are_calculated_line_by_line(command: CommandLine, here: Here, sandbox: ThreadedSandbox) -> None:
    good = {"external_id": "o", "email": "a@b.example", "data": PREORDER}
    bad = {"external_id": "o", "email": "a@b.example", "data": {**PREORDER, "lines": [{"external_id": "l"}]}}
    command.write("preorders.jsonl", "\n".join(map(json.dumps, (good, bad))))
    ended = here("orders", "preorder", "preorders.jsonl")
    assert ended.returncode == 2
    first, second = rows(ended.stdout)
    assert (first["row"], first["data"]) == (1, {"external_id": "o", "final_total_price": "2500.00"})
    assert str(second["error"]).startswith("lines[0].product is required")
    assert not sandbox.has("orders", "o")


def test_products_and_skus_are_listed(here: Here, goods: ThreadedSandbox) -> None:
    listed = rows(here("products", "list").stdout)
    assert [product["external_id"] for product in listed] == ["p0", "p1", "p2"]
    assert listed[1]["sku"] == [{"external_id": "s", "name": "S"}]
    assert rows(here("skus", "list").stdout) == [{"external_id": "s", "name": "S"}]


def test_products_and_skus_are_deleted(here: Here, goods: ThreadedSandbox) -> None:
    ended = here("products", "delete", "-", "nobody", stdin=b'{"external_id": "p1"}\n{"id": 1}\n')
    assert (ended.returncode, rows(ended.stdout)) == (0, [{"asked": 3, "deleted": 2}])
    assert rows(here("skus", "delete", "s").stdout) == [{"asked": 1, "deleted": 1}]
    assert goods.has("products", "p2")
    assert not goods.has("sku", "s")


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("orders", "get-status"), b"", "Missing argument"),
        (("orders", "get-status", "--id", "order_1"), b"", "is no number; leave --id out"),
        (("orders", "delete", "-"), b'{"name": "x"}\n', "neither an external_id nor an id"),
        (("orders", "delete", "-"), b'{"external_id": " "}\n', "neither an external_id nor an id"),
        (("orders", "get-status", ""), b"", "an id is empty"),
        (("orders", "delete", "order_1", " "), b"", "an id is empty"),
        (("skus", "delete", ""), b"", "an id is empty"),
        (("products", "delete", "p1", "a\x01"), b"", "forbidden character U+0001"),
        (("orders", "preorder", "-"), b'{"external_id": "o"}\n', "external_id and data are required"),
        (("orders", "preorder", "-"), b"[]\n", "line 1 is no JSON object"),
        (("products", "list", "--limit", "0"), b"", "it must lie between"),
    ],
)
def test_a_mistake_in_the_command_sends_nothing(
    here: Here, arguments: tuple[str, ...], stdin: bytes, said: str
) -> None:
    ended = here(*arguments, stdin=stdin)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert said in ended.stderr


CSV = "order_external_id,order_line_external_id,status_external_id\n"


def test_reconcile_finds_orders_that_are_not_there(command: CommandLine, here: Here) -> None:
    command.write("in.csv", f"{CSV}order_1,line_1_1,new\nnobody,l,new\n,l,new\n")
    ended = here("reconcile", "in.csv")
    assert ended.returncode == 2
    (missing,) = rows(ended.stdout)
    assert (missing["order_external_id"], missing["found"]) == ("nobody", None)
    assert "expected" not in missing, "the order only had to be there"
    assert "1 invalid rows are left out" in ended.stderr
    assert "2 orders and 2 of their lines compared: 1 differences" in ended.stderr
    assert "did not show the status of 1 lines (looked up one by one)" in ended.stderr


def test_reconcile_with_the_journal_of_an_import_says_what_is_wrong(command: CommandLine, here: Here) -> None:
    order = {"external_id": "o", "endpoint": "s", "status": "new", "total_price": "1", "currency": "RUB", "email": "e"}
    command.write("orders.jsonl", json.dumps({**order, "lines": [{"external_id": "l"}]}))
    assert here("orders", "import", "orders.jsonl", "--triggers", "--journal", "run.journal").returncode == 0
    for given in ("orders.jsonl", "in.csv"):
        command.write("in.csv", f"{CSV}order_1,line_1_1,new\n")
        ended = here("reconcile", given, "--journal", "run.journal")
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "run.journal records a run of market/orders/import, and this compares updates" in ended.stderr


def test_reconcile_expects_what_the_journal_says_was_applied(
    command: CommandLine, here: Here, sandbox: ThreadedSandbox
) -> None:
    command.write("in.csv", f"{CSV}order_1,line_1_1,delivered\norder_1,line_1_1,no-such\norder_1,nowhere,new\n")
    assert here("sync", "in.csv", "--journal", "run.journal").returncode == 2
    assert sandbox.line_status("order_1", "line_1_1") == "delivered"
    ended = here("reconcile", "in.csv", "--journal", "run.journal", "--by", "list")
    assert rows(ended.stdout) == []
    assert "1 orders and 1 of their lines compared: 0 differences" in ended.stderr
    other = command.write("other.csv", f"{CSV}order_9,line_1_1,delivered\n")
    ended = here("reconcile", str(other or "other.csv"), "--journal", "run.journal")
    assert ended.returncode == 1

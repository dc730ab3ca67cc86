"""Examples of every command, for its ``--help`` and the manual page: what for, and the words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["EXAMPLES", "add_examples", "commands_of"]

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "sync": (
        ("the nightly export; run again, it goes on where it stopped", "sync orders.csv --journal orders.journal"),
        ("look at the input first, then send ten rows", "sync orders.csv --dry-run"),
        ("", "sync orders.csv --sample 10"),
        (
            "columns and statuses of another system",
            "sync export.xlsx --map order_external_id=Order --status Sent=delivered",
        ),
        (
            "from cron: prints only failures",
            "sync orders.csv -q --failed failed.csv --results results.jsonl",
        ),
    ),
    "update": (
        ("one order line", "update order_1 line_1 delivered"),
        ("with a log of requests, their times and numbers", "update order_1 line_1 delivered -vv"),
    ),
    "reconcile": (
        ("compare a finished run with the platform", "reconcile orders.csv --journal orders.journal"),
        ("by the list, of one touchpoint", "reconcile orders.csv --by list --endpoint shop"),
    ),
    "shards plan": (("ten parts of an input, for ten workers", "shards plan updates.parquet parts/ --shards 10"),),
    "shards adopt": (("parts that another tool wrote", "shards adopt parts/"),),
    "shards run": (
        ("all parts, by four processes of this machine", "shards run parts/ --processes 4"),
        ("one part, as one of many workers", "shards run parts/ --shard 3"),
    ),
    "shards show": (("the progress of all parts", "shards show parts/"),),
    "report": (
        ("a page that shows how a run went, while it goes on or afterwards", "report orders.journal -o run.html"),
        ("its figures for a program", "report orders.journal --json"),
    ),
    "journal show": (("how the run went, why rows failed, and how to go on", "journal show orders.journal"),),
    "journal failed": (
        ("the failed rows, unchanged", "journal failed orders.journal --input orders.csv -o failed.csv"),
    ),
    "journal export": (
        ("every outcome, as a table", "journal export orders.journal --input orders.csv -o outcomes.csv"),
    ),
    "journal forget": (("a person asks to be forgotten", "journal forget orders.journal --order order_1"),),
    "orders import": (
        (
            "old orders, without automations",
            "orders import orders.jsonl --skip-triggers --journal import.journal",
        ),
        ("count the batches, send nothing", "orders import orders.jsonl --triggers --dry-run"),
    ),
    "orders list": (("all orders of a touchpoint", "orders list --endpoint shop > orders.jsonl"),),
    "orders get-status": (("of two orders", "orders get-status order_1 order_2"),),
    "orders delete": (("the orders that a file names", "orders delete - < ids.txt"),),
    "orders preorder": (("what an order would cost with its promotions", "orders preorder order.jsonl"),),
    "products import": (("in batches; refused batches again in halves", "products import products.jsonl --split"),),
    "products list": (("all of them", "products list > products.jsonl"),),
    "products delete": (("by their external ids", "products delete product_1 product_2"),),
    "skus import": (("in batches; run again, it goes on", "skus import skus.jsonl --journal skus.journal"),),
    "skus list": (("all of them", "skus list > skus.jsonl"),),
    "skus delete": (("by their external ids", "skus delete sku_1 sku_2"),),
    "outbox show": (
        ("of a file, and of a database", "outbox show outbox.db"),
        ("", "outbox show postgresql://shop@db/shop"),
    ),
    "outbox run": (("deliver a database, with health checks", "outbox run postgresql://shop@db/shop --listen :8081"),),
    "outbox schema": (
        ("the tables, to make them by hand", "outbox schema --buckets 64 > outbox.sql"),
        ("from an older release to this one", "outbox schema --since 1 > upgrade.sql"),
    ),
    "journal": (("how a run went, and how to go on", "journal show orders.journal"),),
    "orders": (("does an order exist", "orders get-status order_1"),),
    "products": (("all products, as JSON lines", "products list > products.jsonl"),),
    "skus": (("all SKU, as JSON lines", "skus list > skus.jsonl"),),
    "shards": (
        ("four parts, delivered by the processes of this machine", "shards plan updates.parquet parts/ --shards 4"),
        ("", "shards run parts/"),
    ),
    "outbox": (("how much waits, and why", "outbox show outbox.db"),),
    "outbox dead": (("why updates were given up", "outbox dead outbox.db"),),
    "outbox retry": (("two of them; without ids all that were not overtaken", "outbox retry outbox.db 17 23"),),
    "outbox purge": (("all of them", "outbox purge outbox.db --all"),),
    "outbox forget": (("a person asks to be forgotten", "outbox forget outbox.db --order order_1"),),
    "doctor": (
        ("is everything as it should be", "doctor"),
        ("for a health check: prints only problems", "doctor -q --outbox outbox.db"),
    ),
    "demo": (("the whole job against a server that misbehaves", "demo --faults mixed --lines 5000"),),
    "sandbox": (("an Altcraft of your own, with orders", "sandbox --orders 100 --port 8080"),),
}
"""By the names of a command: what each example is for, where that is not the one's before, and its words."""


def commands_of(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give every command below a group, and the groups too, with its names."""
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))


def add_examples(group: click.Group) -> None:
    """Let the help of every command end with its examples."""
    for path, command in commands_of(group):
        examples = EXAMPLES.get(" ".join(path))
        if examples is None:
            continue
        lines = ["\b", "Examples:"]
        for said, words in examples:
            lines += [f"  # {said}"] if said else []
            lines.append(f"  altcraft-async {words}")
        command.epilog = "\n\n".join(filter(None, (command.epilog, "\n".join(lines))))

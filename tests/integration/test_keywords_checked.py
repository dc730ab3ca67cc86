"""What a call is given beside its data is checked in one way, whatever the call, before anything is sent."""

from __future__ import annotations

import pytest

from altcraft_async import AltcraftClient, ConfigurationError, DeadlineError, OutcomeState
from altcraft_async.blocking import AltcraftClient as BlockingClient
from altcraft_async.outbox import Outbox

ROW = ("order", "line", "new")
WRONG_DEADLINES = ["5", True, float("nan"), float("inf"), -1, -0.5, 10**400, [], (1,)]


class Nobody:
    """A transport that nothing may be sent with."""

    async def send(self, request, **options):
        raise AssertionError(request, options)

    async def aclose(self):
        pass


def new_client():
    return AltcraftClient("http://127.0.0.1", "tok-abc-1234", transport=Nobody())


async def _first(rows):
    async for row in rows:
        return row
    return None


CALLS = {
    "single": lambda client, **given: client.market.orders.update_order_line_status(*ROW, **given),
    "bulk": lambda client, **given: client.market.orders.update_order_line_statuses([ROW], **given),
    "stream": lambda client, **given: _first(client.market.orders.stream_order_line_statuses([ROW], **given)),
    "import": lambda client, **given: client.market.products.import_products([{"external_id": "p"}], **given),
    "list": lambda client, **given: _first(client.market.orders.list(**given)),
    "pages": lambda client, **given: _first(client.market.products.list(**given).pages()),
    "status": lambda client, **given: client.market.orders.get_status(external_id="o", **given),
    "delete": lambda client, **given: client.market.products.delete(external_ids=["p"], **given),
    "reconcile": lambda client, **given: client.market.orders.reconcile([ROW], **given),
}


@pytest.mark.parametrize("deadline", WRONG_DEADLINES, ids=lambda value: str(value)[:8])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_deadline_that_is_none_is_named_by_every_call(call, deadline):
    async with new_client() as client:
        with pytest.raises(ConfigurationError, match=r"^deadline must be a number of seconds, zero or more") as caught:
            await call(client, deadline=deadline)
    assert caught.value.field == "deadline"
    assert len(str(caught.value)) < 200


async def test_a_deadline_that_is_none_is_named_where_a_method_is_called_by_its_path():
    async with new_client() as client:
        with pytest.raises(ConfigurationError, match="deadline"):
            await client.call("market/orders/list", deadline="5")


def test_a_deadline_that_is_none_is_named_by_the_blocking_client():
    with BlockingClient("http://127.0.0.1", "tok-abc-1234", transport=Nobody()) as client:
        with pytest.raises(ConfigurationError, match="deadline"):
            client.market.orders.update_order_line_status(*ROW, deadline="5")
        with pytest.raises(ConfigurationError, match="deadline"):
            client.market.orders.update_order_line_statuses([ROW], deadline=float("nan"))


@pytest.mark.parametrize("deadline", [0, 0.0])
async def test_without_time_left_nothing_is_sent(deadline):
    """The time that is left of a web request may be none."""
    async with new_client() as client:
        with pytest.raises(DeadlineError):
            await CALLS["single"](client, deadline=deadline)
        report = await CALLS["bulk"](client, deadline=deadline)
    assert [outcome.state for outcome in report] == [OutcomeState.NOT_SENT]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_policy_for_outages_that_is_none_is_named_by_every_call(call):
    async with new_client() as client:
        with pytest.raises(ConfigurationError, match=r"^outage must be an OutagePolicy.*, not 3") as caught:
            await call(client, outage=3)
    assert caught.value.field == "outage"


@pytest.mark.parametrize("call", [CALLS["bulk"], CALLS["stream"], CALLS["import"]])
@pytest.mark.parametrize("journal", [5, b"journal.db", True])
async def test_a_journal_that_is_no_path_is_named_and_nothing_is_written(call, journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with new_client() as client:
        with pytest.raises(ConfigurationError, match=r"^journal must be the path of a file, not"):
            await call(client, journal=journal)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("bulk", {"window": 10**30}),
        ("bulk", {"rate": 10**400}),
        ("import", {"batch_size": 10**30}),
        ("import", {"timeout": 10**400}),
        ("list", {"limit": 10**30}),
        ("reconcile", {"limit": True}),
    ],
)
async def test_a_number_beyond_all_use_is_named(call, given):
    async with new_client() as client:
        with pytest.raises(ConfigurationError, match=rf"^{next(iter(given))} must be") as caught:
            await CALLS[call](client, **given)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "setting",
    [
        {"capacity": "5"},
        {"capacity": True},
        {"drain_timeout": "1"},
        {"drain_timeout": -1},
        {"give_up_after": float("nan")},
        {"dead_capacity": 1.5},
        {"dead_age": 10**400},
    ],
)
def test_a_setting_of_an_outbox_that_cannot_work_is_named(setting, tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        Outbox(tmp_path / "outbox.db", **setting)
    assert caught.value.field == next(iter(setting))


@pytest.mark.parametrize("wait", ["5", True, -1, float("nan")])
async def test_a_time_to_wait_for_room_that_is_none_is_named(wait, tmp_path):
    async with Outbox(tmp_path / "outbox.db") as outbox:
        with pytest.raises(ConfigurationError, match=r"^timeout must be a number of seconds"):
            await outbox.put(ROW, timeout=wait)

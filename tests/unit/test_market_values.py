"""The values of the Market: what is given is checked, what is answered is taken, nothing is lost."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from enum import StrEnum

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import InvalidUpdateError
from altcraft_async.protocol.values.schema import check_name
from altcraft_async.values import (
    Category,
    CustomField,
    CustomLineStatus,
    Order,
    OrderLine,
    OrderStatus,
    Preorder,
    Product,
    Profile,
    RegionalData,
    Sku,
    Value,
)

LINE = {"external_id": "line_1", "status": "new", "product": "p", "base_price_per_item": "3.50", "count": 2}
ORDER = {
    "external_id": "order_1",
    "endpoint": "site",
    "status": "new",
    "total_price": "10.50",
    "currency": "RUB",
    "lines": [LINE],
    "email": "a@b.example",
}
PREORDER = {
    "endpoint": "site",
    "status": "new",
    "currency": "RUB",
    "total_price": "2500.00",
    "lines": [{"external_id": "l", "sku": "s"}],
}
PRODUCT = {
    "external_id": "p",
    "name": "Product",
    "tags": ["a"],
    "barcode": [4600000000000],
    "is_available": False,
    "regional_data": [{"external_id": "r", "price": "1"}],
}
SAMPLES = [
    (Order, ORDER),
    (OrderLine, LINE),
    (Preorder, PREORDER),
    (Product, PRODUCT),
    (Sku, {"external_id": "s", "name": "S", "product_external_id": "p"}),
    (Category, {"external_id": "c", "name": "C", "parent_external_id": "b"}),
    (CustomLineStatus, {"external_id": "lost", "name": "Lost", "type": "canceled"}),
    (RegionalData, {"external_id": "r", "count": 0, "delivery": True}),
    (
        CustomField,
        {
            "external_id": "f",
            "name": "F",
            "entity_type": "order",
            "required": False,
            "value_type": "enum",
            "default_value": "",
            "enum_values": {"a": 1},
        },
    ),
]


@pytest.mark.parametrize(("kind", "data"), SAMPLES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_mapping_becomes_a_value_and_the_same_mapping_again(kind, data):
    value = kind.from_dict(data)
    assert value.to_dict() == data
    assert kind(**data) == kind.from_answer(data) == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(("kind", "data"), SAMPLES, ids=lambda one: getattr(one, "__name__", ""))
def test_every_field_that_is_required_is_named_where_it_is_missing(kind, data):
    required = {field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING} - {"default_value"}
    for name in required:
        with pytest.raises(InvalidUpdateError, match=rf"^{name} is required") as caught:
            kind.from_dict({other: value for other, value in data.items() if other != name})
        assert caught.value.field == name


@pytest.mark.parametrize("kind", [Profile, OrderStatus, *(kind for kind, _ in SAMPLES)])
def test_fields_are_given_by_name(kind):
    assert all(field.kw_only for field in attrs.fields(kind))


def test_an_id_that_may_be_a_number_stays_what_it_is():
    for given_id in (7, "7"):
        for value in (Order.from_dict({**ORDER, "profile_id": given_id}), Order.from_answer({"profile_id": given_id})):
            assert repr(value.profile_id) == repr(given_id)
    assert Order.from_answer({"profile_id": True}).extra == {"profile_id": True}


def test_inner_values_may_be_values_too():
    assert Order.from_dict({**ORDER, "lines": [OrderLine(**LINE)]}) == Order.from_dict(ORDER)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"external_id": " "}, "external_id"),
        ({"external_id": " a"}, "external_id"),
        ({"external_id": "a "}, "external_id"),
        ({"external_id": "a\nb"}, "external_id"),
        ({"external_id": b"x"}, "external_id"),
        ({"region": "\x00"}, "region"),
        ({"total_price": 1.5}, "total_price"),
        ({"total_price": "1,5"}, "total_price"),
        ({"total_price": Decimal("NaN")}, "total_price"),
        ({"create_time": "yesterday"}, "create_time"),
        ({"create_time": dt.datetime(2026, 1, 1)}, "create_time"),  # noqa: DTZ001
        ({"tags": "a"}, "tags"),
        ({"tags": ["a", None]}, "tags[1]"),
        ({"lines": []}, "lines"),
        ({"lines": LINE}, "lines"),
        ({"lines": [LINE, {"status": "new"}]}, "lines[1].external_id"),
        ({"lines": [{**LINE, "count": "2"}]}, "lines[0].count"),
        ({"lines": [{**LINE, "count": True}]}, "lines[0].count"),
        ({"lines": [7]}, "lines[0]"),
        ({"custom_fields": {"a": {1}}}, "custom_fields.a"),
        ({"custom_fields": {"a": [float("inf")]}}, "custom_fields.a[0]"),
        ({"custom_fields": "a"}, "custom_fields"),
        ({"unheard_of": object()}, "unheard_of"),
        ({"email": None}, "email"),
        ({"matching": "phone"}, "phone"),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_its_field(change, field):
    with pytest.raises(InvalidUpdateError) as caught:
        Order.from_dict({**ORDER, **change})
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_the_constructor_refuses_what_from_dict_refuses():
    with pytest.raises(InvalidUpdateError, match=r"^lines\[0\].external_id is required"):
        Order(**{**ORDER, "lines": [{}]})
    with pytest.raises(InvalidUpdateError, match=r"^lines must have at least one entry"):
        Order(**{**ORDER, "lines": ()})


def test_what_is_no_mapping_makes_no_value():
    with pytest.raises(InvalidUpdateError, match=r"^Order is made of a mapping, not of list"):
        Order.from_dict([("external_id", "x")])


def test_a_description_has_at_most_a_thousand_characters():
    assert Product(external_id="p", name="P", description="x" * 1000)
    with pytest.raises(InvalidUpdateError, match=r"^description has 1001 characters"):
        Product(external_id="p", name="P", description="x" * 1001)


class Status(StrEnum):
    PAID = "paid"


def test_what_can_only_mean_one_text_becomes_it():
    order = Order.from_dict(
        {
            **ORDER,
            "external_id": 7,
            "status": Status.PAID,
            "total_price": Decimal("10.50"),
            "delivery_cost": 3,
            "create_time": dt.datetime(2022, 1, 2, 18, 4, 5, 141_999, tzinfo=dt.timezone(dt.timedelta(hours=3))),
            "update_time": dt.date(2022, 1, 3),
        }
    )
    assert (order.external_id, order.status, type(order.status)) == ("7", "paid", str)
    assert (order.total_price, order.delivery_cost) == ("10.50", "3")
    assert (order.create_time, order.update_time) == ("2022-01-02T15:04:05.141Z", "2022-01-03")


@pytest.mark.parametrize(
    "time", ["2006-01-25", "2006-01-25 15:04:05", "2022-01-02T15:04:05.141Z", "2022-01-02T15:04:05+03:00"]
)
def test_a_documented_form_of_a_time_stays_as_it_is(time):
    assert Order.from_dict({**ORDER, "create_time": time}).create_time == time


def test_open_sets_are_open():
    assert Order.from_dict({**ORDER, "status": "as configured"}).status == "as configured"
    assert Order.from_dict({**ORDER, "email": None, "matching": "loyalty", "loyalty": "5"}).extra == {"loyalty": "5"}


def test_an_order_of_a_list_says_whose_it_is_by_its_profile():
    answer = {**ORDER, "email": None, "profile": {"profile_id": 5, "xxh": "x"}, "bonus": {"points": 1}}
    order = Order.from_answer(answer)
    assert order.profile is not None
    assert (order.profile.profile_id, order.extra) == ("5", {"bonus": {"points": 1}})
    assert Order.from_dict(order.to_dict()) == order


@pytest.mark.parametrize(
    ("data", "field"), [({"external_id": "l"}, "lines[0].product"), ({"product": "p"}, "lines[0].external_id")]
)
def test_a_line_of_a_preorder_says_what_is_bought(data, field):
    with pytest.raises(InvalidUpdateError) as caught:
        Preorder.from_dict({**PREORDER, "lines": [data]})
    assert caught.value.field == field


def test_an_answer_is_taken_as_it_is():
    order = Order.from_answer({"external_id": 5, "total_price": 100.5, "lines": 7, "create_time": "yesterday"})
    assert (order.external_id, order.total_price, order.create_time) == ("5", "100.5", "yesterday")
    assert (order.status, order.lines, order.region) == ("", (), None)
    assert order.extra == {"lines": 7}
    assert order.to_dict() == {"external_id": "5", "total_price": "100.5", "create_time": "yesterday", "lines": 7}


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e17, "1" + 17 * "0"), (1e-7, "0.0000001"), (199.9, "199.9"), (-0.5, "-0.5"), (10**20, "1" + 20 * "0")],
)
def test_an_amount_that_an_answer_gives_as_a_number_is_plain_decimal_text(number, text):
    order = Order.from_answer({"total_price": number, "lines": [{"final_price_per_item": number}]})
    assert (order.total_price, order.lines[0].final_price_per_item) == (text, text)
    assert Product.from_answer({"price": number}).price == text


def test_what_an_answer_has_beside_its_fields_is_kept_and_not_shown():
    value = OrderLine.from_answer({**LINE, "note": "canary"})
    assert value.extra == {"note": "canary"}
    assert "canary" not in repr(value)


def test_an_answer_in_xml_is_the_one_in_json():
    as_xml = {"external_id": "p", "name": "P", "count": "3", "is_available": "true", "tags": "a", "barcode": "12"}
    as_json = {"external_id": "p", "name": "P", "count": 3, "is_available": True, "tags": ["a"], "barcode": [12]}
    assert Product.from_answer(as_xml) == Product.from_answer(as_json)
    assert Product.from_answer({**as_xml, "tags": None, "sku": None, "custom_fields": None}).tags == ()
    assert Product.from_answer({**as_xml, "tags": [None, "a", ""]}).tags == ("a",)


_LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "a", "5", "true"])
_LEAVES = (
    _LEAF | st.lists(_LEAF, max_size=2) | st.dictionaries(st.sampled_from(["external_id", "x"]), _LEAF, max_size=2)
)
_PLAIN = _LEAVES | st.lists(_LEAVES, max_size=2)


@given(
    st.sampled_from([Order, Product, Sku, Preorder, OrderStatus, CustomField]),
    st.dictionaries(
        st.sampled_from(["external_id", "lines", "tags", "count", "profile", "is_available", "sku", "x", "extra"]),
        _PLAIN,
    ),
)
def test_no_answer_is_an_error_and_nothing_of_it_is_lost(kind, data):
    value = kind.from_answer(data)
    assert isinstance(value, Value)
    written = value.to_dict()
    assert {name for name, told in data.items() if says(told)} <= written.keys()


def says(told):
    """Whether there is anything in what an answer tells: XML cannot tell nothing from emptiness."""
    return any(map(says, told)) if isinstance(told, list) else told not in (None, "", {})


def test_what_a_value_leaves_out_is_its_own_to_fill():
    one, other = (Order.from_dict(ORDER) for _ in range(2))
    one.custom_fields["tag"] = "mine"
    assert other.custom_fields == {}
    assert Order.from_answer(ORDER).custom_fields == {}


def test_a_day_that_no_calendar_has_is_no_time():
    for day in ("2022-13-02", "2022-02-30"):
        with pytest.raises(InvalidUpdateError, match=f"create_time is no day of the calendar: {day}"):
            Order.from_dict({**ORDER, "create_time": day})


@pytest.mark.parametrize(
    ("value", "said"), [("", "is empty"), (" ", "is empty"), ("\n", "is empty"), ("a\nb", r"U\+000A at position 2")]
)
def test_what_names_nothing_is_refused(value, said):
    with pytest.raises(InvalidUpdateError, match=f"^id .*{said}") as caught:
        check_name("id", value)
    assert caught.value.field == "id"


@pytest.mark.parametrize("value", ["a", " a ", 7])
def test_what_names_a_thing_that_is_there_is_taken_as_it_is(value):
    assert check_name("id", value) == str(value)


def test_a_flag_of_xml_is_true_or_false():
    assert [Product.from_answer({"is_available": text}).is_available for text in ("true", "false")] == [True, False]
    assert Product.from_answer({"is_available": "yes"}).extra == {"is_available": "yes"}


def test_a_flag_that_is_required_and_not_there_is_false():
    assert CustomField.from_answer({}).required is False

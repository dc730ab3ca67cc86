"""JSON and XML say the same, both ways, for every method of the Market.

The sandbox reads and writes with code of its own.
"""

from __future__ import annotations

import json
import string
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from altcraft_async import ConfigurationError
from altcraft_async.protocol.methods import (
    COMMIT_PREORDER,
    DELETE_ORDER,
    DELETE_PRODUCTS,
    GET_ORDER_STATUS,
    IMPORT_ORDERS,
    IMPORT_PRODUCTS,
    IMPORT_SKUS,
    LIST_ORDERS,
    LIST_PRODUCTS,
    LIST_SKUS,
    METHODS,
    PREORDER,
    UPDATE_LINE_STATUS,
)
from altcraft_async.protocol.values import schema
from altcraft_async.protocol.wire import Call, Wire, WireResponse
from altcraft_async.sandbox.reading import read_body, write_answer
from altcraft_async.sandbox.shapes import read_fields
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
)

NAMES = st.text(alphabet=string.ascii_letters + "жШ_", min_size=1, max_size=5)
LETTERS = st.characters(
    codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters='\ufffe\uffff"'
)
TEXTS = st.text(alphabet=LETTERS, min_size=1, max_size=8) | st.sampled_from(["a b", "<&>'", "]]>", "Отгружен", "00"])
AMOUNTS = st.decimals(0, 10**9, places=2).map(str)
FIELDS = st.dictionaries(NAMES, TEXTS, max_size=2)
OF_FORM = {
    id(schema.TEXT["form"]): TEXTS,
    id(schema.ID["form"]): TEXTS,
    id(schema.KEY["form"]): TEXTS,
    id(schema.MONEY["form"]): AMOUNTS,
    id(schema.WHOLE["form"]): st.integers(0, 10**12),
    id(schema.FLAG["form"]): st.booleans(),
    id(schema.TIME["form"]): st.sampled_from(["2006-01-25", "2006-01-25 15:04:05", "2022-01-02T15:04:05.141Z"]),
    id(schema.FIELDS["form"]): FIELDS,
    id(schema.ANY["form"]): TEXTS,
}


def rows(kind: Any, **changed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Rows of a class of values, in the platform's names; what it may leave out is there in half of them."""
    required, optional = {}, {}
    for field in attrs.fields(kind):
        if field.name == "extra":
            continue
        strategy = changed.get(field.name, OF_FORM.get(id(field.metadata["form"])))
        if strategy is None:
            continue
        (required if field.default is attrs.NOTHING else optional)[field.name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def some(strategy, least=0):
    return st.lists(strategy, min_size=least, max_size=3)


LINES = some(rows(OrderLine), 1)
LISTED = rows(Order, lines=LINES, tags=some(TEXTS), profile=rows(Profile))
ORDERS = rows(
    Order,
    lines=st.lists(rows(OrderLine, currency=None), min_size=1, max_size=3, unique_by=lambda line: line["external_id"]),
    tags=some(TEXTS),
    status=st.sampled_from(["new", "paid"]),
    matching=None,
    phone=None,
    profile_id=None,
).map(lambda order: {**order, "email": order.get("email", "e")})
GOODS = {
    "tags": some(TEXTS),
    "pictures": some(TEXTS),
    "categories": some(TEXTS),
    "barcode": some(st.integers(0, 10**12)),
    "regional_data": some(rows(RegionalData)),
    "description": TEXTS,
}
CUSTOM = rows(
    CustomField,
    entity_type=st.just("order"),
    value_type=st.just("enum"),
    enum_values=st.dictionaries(NAMES, st.integers(0, 9).map(str), max_size=2),
)
CATEGORIES = some(rows(Category))
WHOSE = st.sampled_from([{"email": "e"}, {"phone": "+7"}, {"profile_id": "5"}])
PREORDERS = rows(Preorder, lines=some(rows(OrderLine, currency=None).map(lambda line: {**line, "sku": "s"}), 1))


def fields(**strategies):
    required = {name: one for name, one in strategies.items() if not name.endswith("_")}
    return st.fixed_dictionaries(required, optional={n[:-1]: one for n, one in strategies.items() if n.endswith("_")})


ONE_ORDER = fields(external_id=TEXTS) | fields(id=st.integers(1, 10**9))
GONE = fields(ids=some(st.integers(1, 10**9), 1)) | fields(external_ids=some(TEXTS, 1))
PAGE = {"from_id_": TEXTS, "limit_": st.integers(1, 1000)}
REQUESTS = {
    UPDATE_LINE_STATUS: fields(order_external_id=TEXTS, order_line_external_id=TEXTS, status_external_id=TEXTS),
    IMPORT_ORDERS: fields(
        data=some(ORDERS, 1),
        custom_fields_=some(CUSTOM),
        custom_line_statuses_=some(rows(CustomLineStatus, type=st.just("delivered"))),
        skip_triggers_=st.booleans(),
    ),
    LIST_ORDERS: fields(endpoint_=TEXTS, **PAGE),
    GET_ORDER_STATUS: ONE_ORDER,
    DELETE_ORDER: ONE_ORDER,
    PREORDER: WHOSE.flatmap(
        lambda whose: fields(external_id=TEXTS, matching=st.just(next(iter(whose))), data=PREORDERS).map(
            lambda request: {**request, **whose}
        )
    ),
    COMMIT_PREORDER: st.tuples(fields(external_id=TEXTS, data=PREORDERS, skip_triggers_=st.booleans()), WHOSE).map(
        lambda both: {**both[0], **both[1]}
    ),
    IMPORT_PRODUCTS: fields(data=some(rows(Product, **GOODS), 1), categories_=CATEGORIES),
    IMPORT_SKUS: fields(data=some(rows(Sku, **GOODS), 1), categories_=CATEGORIES),
    LIST_PRODUCTS: fields(**PAGE),
    LIST_SKUS: fields(**PAGE),
    DELETE_PRODUCTS: GONE,
    METHODS[-1]: GONE,
}


def plain(value: Any) -> Any:
    """What is the same for both formats: an empty array and none at all, and of XML nothing else."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if inner not in ([], {})}
    return [plain(one) for one in value] if isinstance(value, list) else value


def asked(method, request, form):
    wire = Wire("t", request_format=form, token_in="header")
    sent = wire.encode(Call(method.path, request), "id")
    raw, as_xml = read_body(sent.headers["Content-Type"], sent.body)
    raw.pop("format", None)
    return read_fields(method.path, raw, xml=as_xml)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_a_request_says_the_same_in_both_formats(method):
    @settings(max_examples=20, deadline=None)
    @given(REQUESTS[method])
    def check(request):
        in_json, in_xml = asked(method, request, "json"), asked(method, request, "xml")
        assert plain(in_json) == plain(in_xml) == plain(request)

    check()


def answered(method, payload, *, xml):
    body = write_answer(payload, xml=xml)
    response = WireResponse(200, {"Content-Type": "application/xml" if xml else "application/json"}, body)
    reply = Wire("t").decode(response)
    assert reply.code == 0
    found = dict(reply.payload)
    method.arrange(found)
    return found


LISTS = [
    (LIST_ORDERS, Order, LISTED),
    (LIST_PRODUCTS, Product, rows(Product, **GOODS, sku=some(rows(Sku, **GOODS)))),
    (LIST_SKUS, Sku, rows(Sku, **GOODS)),
    (GET_ORDER_STATUS, OrderStatus, rows(OrderStatus)),
]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(("method", "kind", "strategy"), LISTS, ids=lambda one: getattr(one, "path", ""))
def test_an_answer_says_the_same_in_both_formats(method, kind, strategy):
    @settings(max_examples=20, deadline=None)
    @given(st.lists(strategy, max_size=3))
    def check(found):
        payload = {"result": found, "next_from_id": "", "error": 0, "error_text": ""}
        if method is GET_ORDER_STATUS:
            payload["result"] = found[0] if found else {}
        read = []
        for xml in (False, True):
            result = answered(method, payload, xml=xml).get("result") or []
            read.append([kind.from_answer(one) for one in (result if isinstance(result, list) else [result])])
        assert read[0] == read[1]
        if method is not GET_ORDER_STATUS:
            assert plain([value.to_dict() for value in read[0]]) == plain(found)

    check()


@pytest.mark.parametrize("method", [IMPORT_ORDERS, IMPORT_PRODUCTS, IMPORT_SKUS], ids=lambda method: method.path)
@pytest.mark.parametrize("key", ["data", "result"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_results_of_rows_are_an_array_in_both_formats(method, key, count):
    results = [{"external_id": str(number), "error_text": "x"} for number in range(count)]
    payload = {key: results, "error": 0, "error_text": ""}
    assert answered(method, payload, xml=True)[key] == answered(method, payload, xml=False)[key] == results


@pytest.mark.parametrize(
    "body",
    [
        (
            b"<xml><result><external_id>o</external_id><tags>t</tags><lines><external_id>l</external_id></lines>"
            b"</result><error>0</error><error_text/></xml>"
        ),
        (
            b"<?xml version='1.0' encoding='UTF-8'?>\n<xml>\n <error>0</error>\n <error_text></error_text>\n <result>"
            b"\n  <external_id>o</external_id><tags>t</tags><region/><custom_fields/>\n  <lines>\n"
            b"<external_id>l</external_id><custom_fields></custom_fields></lines>\n </result>\n <next_from_id/></xml>"
        ),
    ],
)
def test_the_forms_of_xml_are_one_order(body):
    found = dict(Wire("t").decode(WireResponse(200, {"Content-Type": "application/xml"}, body)).payload)
    LIST_ORDERS.arrange(found)
    (order,) = (Order.from_answer(row) for row in found["result"])
    assert (order.external_id, order.tags, order.region, dict(order.custom_fields)) == ("o", ("t",), None, {})
    assert order.lines == (OrderLine(external_id="l"),)


@pytest.mark.parametrize("name", ["1a", "a b", "", "@a", "#text", "a:b", "-a", "a/b", "a>b"])
def test_a_name_that_no_element_can_have_is_refused_before_it_is_sent(name):
    wire = Wire("t", request_format="xml")
    call = Call(IMPORT_ORDERS.path, {"data": [{"custom_fields": {name: "x"}}]})
    with pytest.raises(ConfigurationError, match="cannot be the name of an XML element"):
        wire.encode(call, "id")
    assert json.loads(Wire("t").encode(call, "id").body)["data"]

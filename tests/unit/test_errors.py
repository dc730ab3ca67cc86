"""The error tree: its shape, its messages, its facts."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async import Outcome, OutcomeState, Report, errors
from altcraft_async.errors import (
    AltcraftError,
    APIError,
    AttemptTimeoutError,
    AuthenticationError,
    BadRequestError,
    BatchError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    DeadlineError,
    DeliveryError,
    EventLoopError,
    InvalidUpdateError,
    MissingExtraError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TariffLimitError,
    UnreadableResponseError,
    api_error,
)
from altcraft_async.ingest import InputError

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, AltcraftError)]


def drawn_tree() -> dict[str, str]:
    """Read the tree out of the module's docstring: each error's name and its parent's."""
    parents, found = {-1: ""}, {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match[1]) // 2
        found[match[2]] = next(parents[d] for d in range(depth - 1, -2, -1) if d in parents)
        parents = {d: name for d, name in parents.items() if d < depth} | {depth: match[2]}
    return found


def test_the_tree_in_the_docstring_is_the_tree():
    actual = {
        kind.__name__: next((b.__name__ for b in kind.__bases__ if issubclass(b, AltcraftError)), "") for kind in KINDS
    }
    assert drawn_tree() == actual


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_one_base_a_name_that_says_so_and_a_docstring(kind):
    assert kind.__name__.endswith("Error")
    assert kind.__doc__
    assert kind.__name__ in errors.__all__


@pytest.mark.parametrize("kind", [*KINDS, InputError])
def test_every_error_tells_what_may_have_been_applied_and_what_to_do(kind):
    assert {"effect", "remedy"} <= vars(kind).keys(), "each class tells its own, not its parent's"
    assert kind.effect[0].islower()
    assert not kind.effect.endswith(".")
    assert kind.remedy[0].isupper()
    assert kind.remedy.endswith(".")


@pytest.mark.parametrize("kind", [*KINDS, InputError])
def test_what_an_error_tells_names_only_what_it_has(kind):
    error = kind("what happened")
    elsewhere = {"failures", "rate", "concurrency", "max_response_bytes", "ALTCRAFT_TOKEN", "OutagePolicy", "__cause__"}
    named = set(re.findall(r"`([A-Za-z_]+)`", f"{kind.effect} {kind.remedy}"))
    assert {name for name in named if not hasattr(error, name)} <= elsewhere


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, DeliveryError)])
def test_what_may_have_been_applied_is_told_as_the_error_says_it(kind):
    if kind("what happened").maybe_applied:
        assert "perhaps the change" in kind.effect
    else:
        assert kind.effect == "nothing" or "maybe_applied" in kind.effect


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling_with_its_facts(kind):
    error = kind("what happened")
    if isinstance(error, DeliveryError):
        error.subject, error.request_id, error.attempts = "order line a/b", "id-1", 2
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_batch_error_survives_pickling_with_its_report():
    outcomes = [Outcome(0, None, OutcomeState.INVALID, error=InvalidUpdateError("it is empty"))]
    report = Report(outcomes=outcomes, elapsed=1.0, sent=0, retries=0, throttled=0)
    with pytest.raises(BatchError) as caught:
        report.raise_for_failures()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.report.counts == report.counts


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (ConfigurationError, ValueError),
        (InvalidUpdateError, ValueError),
        (EventLoopError, RuntimeError),
        (MissingExtraError, ImportError),
        (DeadlineError, TimeoutError),
        (AttemptTimeoutError, TimeoutError),
        (ConnectError, ConnectionError),
        (ConnectionLostError, ConnectionError),
    ],
)
def test_an_error_is_also_what_python_calls_it(kind, builtin):
    assert issubclass(kind, builtin)


def test_the_message_of_a_delivery_names_the_line_the_attempts_and_the_id():
    error = ServerError("the server answered error 500", maybe_applied=True)
    error.subject, error.request_id, error.attempts = "order line order_1/line_1", "id-1", 3
    assert str(error) == (
        "order line order_1/line_1: the server answered error 500 (after 3 attempts, Request-ID id-1); "
        "the change may have been applied"
    )


def test_one_attempt_is_not_called_attempts():
    error = ConnectError("no connection")
    error.attempts, error.request_id = 1, "id-1"
    assert str(error) == "no connection (after 1 attempt, Request-ID id-1)"


def test_an_invalid_update_names_file_and_line_where_they_are_known():
    assert str(InvalidUpdateError("it is empty")) == "it is empty"
    assert str(InvalidUpdateError("it is empty", source="a.csv", line=3)) == "a.csv, line 3: it is empty"
    assert str(InvalidUpdateError("it is empty", line=3)) == "input, line 3: it is empty"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, TariffLimitError),
        (403, PermissionDeniedError),
        (429, RateLimitError),
        (500, ServerError),
        (501, ServerError),
        (599, ServerError),
        (404, APIError),
        (440, APIError),
        (600, APIError),
        (302, APIError),
        (-1, APIError),
    ],
)
def test_an_answer_becomes_the_error_of_its_code_or_else_of_its_status(number, kind):
    assert type(api_error(status=200, code=number)) is kind
    assert type(api_error(status=number)) is kind


def test_the_code_decides_where_both_speak():
    error = api_error(status=500, code=401, text="who are you")
    assert type(error) is AuthenticationError
    assert str(error) == "the server answered error 401 (who are you) with HTTP 500; check the token"


@given(status=st.integers(), code=st.none() | st.integers(), text=st.text(max_size=20), duplicate=st.booleans())
def test_every_answer_becomes_some_error_with_its_facts(status, code, text, duplicate):
    error = api_error(status=status, code=code, text=text, duplicate=duplicate, retry_after=1.5, maybe_applied=True)
    assert (error.status, error.code, error.text, error.duplicate) == (status, code, text, duplicate)
    assert (error.retry_after, error.maybe_applied) == (1.5, True)
    assert text in str(error)


def test_what_may_have_been_applied_is_so_by_default_only_where_something_was_sent():
    assert not ConnectError("x").maybe_applied
    for kind in (ConnectionLostError, AttemptTimeoutError, UnreadableResponseError):
        assert kind("x").maybe_applied

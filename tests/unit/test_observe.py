"""Events, observers, and what the logging observer writes."""

from __future__ import annotations

import logging

import attrs
import pytest

from altcraft_async import ConnectError, LineStatusUpdate, Outcome, OutcomeState, observe
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallEvent,
    CallStarted,
    JournalOpened,
    LeasesChanged,
    LimitChanged,
    LimitShared,
    LoggingObserver,
    OutageBegan,
    OutageEnded,
    OutboxChanged,
    RetryPlanned,
    SendingPaused,
    UpdateSettled,
    UpdatesSkipped,
    notify,
)

ERROR = ConnectError("no connection")
UPDATE = LineStatusUpdate("o", "l", "new")
APPLIED = Outcome(0, UPDATE, OutcomeState.APPLIED, 1, 0.1, "id-1")
FAILED = Outcome(7, UPDATE, OutcomeState.NOT_SENT, 2, 0.1, "id-2", ERROR)
CALL = {"method": "m", "request_id": "id-1", "order_external_id": "o", "order_line_external_id": "l", "call_id": 5}
NOTHING = dict.fromkeys(
    (
        "method", "request_id", "order_external_id", "order_line_external_id", "index", "attempt", "state", "elapsed",
        "error_type",
    )
)  # fmt: skip
LINE = NOTHING | {"request_id": "id-1", "order_external_id": "o", "order_line_external_id": "l"}
CASES = [  # an event, its level, what its record carries
    (CallStarted(**CALL), logging.DEBUG, LINE | {"method": "m"}),
    (AttemptStarted(attempt=1, url="https://x.test/m", **CALL), logging.DEBUG, LINE | {"method": "m", "attempt": 1}),
    (
        AttemptEnded(attempt=1, elapsed=0.1, status=200, error=None, **CALL),
        logging.DEBUG,
        LINE | {"method": "m", "attempt": 1, "elapsed": 0.1},
    ),
    (
        CallEnded(state=OutcomeState.NOT_SENT, attempts=2, elapsed=0.5, error=ERROR, **CALL),
        logging.DEBUG,
        LINE | {"method": "m", "attempt": 2, "elapsed": 0.5, "state": "not_sent", "error_type": "ConnectError"},
    ),
    (LimitChanged(5, 4), logging.DEBUG, NOTHING),
    (LimitShared(4), logging.INFO, NOTHING),
    (UpdatesSkipped(0, 1000), logging.DEBUG, NOTHING),
    (JournalOpened("run.journal", "id", 1000, 3), logging.INFO, NOTHING),
    (OutboxChanged(3, 1), logging.DEBUG, NOTHING),
    (LeasesChanged(held=8, won=8, lost=0), logging.DEBUG, NOTHING),
    (
        UpdateSettled(APPLIED),
        logging.DEBUG,
        LINE | {"index": 0, "attempt": 1, "elapsed": 0.1, "state": "applied"},
    ),
    (
        RetryPlanned(attempt=1, delay=0.5, error=ERROR, **CALL),
        logging.INFO,
        LINE | {"method": "m", "attempt": 1, "error_type": "ConnectError"},
    ),
    (SendingPaused(3.0), logging.INFO, NOTHING),
    (OutageBegan(2.0), logging.WARNING, NOTHING),
    (OutageEnded(12.0), logging.INFO, NOTHING),
    (
        UpdateSettled(FAILED),
        logging.WARNING,
        {**LINE, "request_id": "id-2", "index": 7, "attempt": 2, "elapsed": 0.1, "state": "not_sent"}
        | {"error_type": "ConnectError"},
    ),
    (
        UpdateSettled(Outcome(3, None, OutcomeState.INVALID, error=ERROR)),
        logging.WARNING,
        NOTHING | {"index": 3, "attempt": 0, "elapsed": 0.0, "state": "invalid", "error_type": "ConnectError"},
    ),
]


@pytest.mark.parametrize(("event", "level", "carried"), CASES)
def test_each_event_is_logged_at_its_level_with_all_it_knows(caplog, event, level, carried):
    caplog.set_level(logging.DEBUG, "altcraft_async")
    LoggingObserver().on_event(event)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (level, "altcraft_async")
    assert {name: getattr(record, name) for name in NOTHING} == carried
    assert type(record.state) in {str, type(None)}


def test_every_event_has_a_level_here():
    events = {kind for name, kind in vars(observe).items() if attrs.has(kind) and name in observe.__all__}
    assert {type(event) for event, *_ in CASES} == events - {CallEvent}


def test_a_failed_update_is_logged_in_words(caplog):
    LoggingObserver().on_event(UpdateSettled(FAILED))
    assert caplog.messages == ["update 7: not_sent: no connection"]


def test_a_level_that_is_off_costs_no_text(caplog):
    class Unprintable(CallStarted):
        def __repr__(self):
            raise AssertionError

    caplog.set_level(logging.INFO, "altcraft_async")
    LoggingObserver().on_event(Unprintable("m", "id-1"))
    assert caplog.records == []


def test_another_logger_can_be_given(caplog):
    caplog.set_level(logging.INFO, "mine")
    LoggingObserver(logging.getLogger("mine")).on_event(SendingPaused(3.0))
    assert [record.name for record in caplog.records] == ["mine"]


@pytest.mark.parametrize("event", [event for event, *_ in CASES])
def test_events_are_frozen(event):
    name = attrs.fields(type(event))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(event, name, None)


def test_an_observer_that_raises_is_logged_and_the_next_one_is_told(caplog, watcher):
    class Broken:
        def on_event(self, event):
            raise ZeroDivisionError

    notify([Broken(), watcher], SendingPaused(1.0))
    assert watcher.events == [SendingPaused(1.0)]
    assert "an observer failed on SendingPaused" in caplog.text

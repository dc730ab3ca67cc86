"""Events, observers, and what the logging observer writes."""

from __future__ import annotations

import logging

import attrs
import pytest

from altcraft_async import ConnectError, LineStatusUpdate, Outcome, OutcomeState, observe
from altcraft_async.observe import (
    AttemptEnded,
    AttemptStarted,
    LimitChanged,
    LoggingObserver,
    RetryPlanned,
    SendingPaused,
    UpdateSettled,
    notify,
)

ERROR = ConnectError("no connection")
UPDATE = LineStatusUpdate("o", "l", "new")
APPLIED = Outcome(0, UPDATE, OutcomeState.APPLIED, 1, 0.1, "id-1")
FAILED = Outcome(7, UPDATE, OutcomeState.NOT_SENT, 2, 0.1, "id-2", ERROR)
LEVELS = [
    (AttemptStarted("m", "id-1", 1), logging.DEBUG),
    (AttemptEnded("m", "id-1", 1, 0.1, 200, None), logging.DEBUG),
    (LimitChanged(5, 4), logging.DEBUG),
    (UpdateSettled(APPLIED), logging.DEBUG),
    (RetryPlanned("m", "id-1", 1, 0.5, ERROR), logging.INFO),
    (SendingPaused(3.0), logging.INFO),
    (UpdateSettled(FAILED), logging.WARNING),
]


@pytest.mark.parametrize(("event", "level"), LEVELS)
def test_each_event_has_its_level(caplog, event, level):
    caplog.set_level(logging.DEBUG, "altcraft_async")
    LoggingObserver().on_event(event)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (level, "altcraft_async")


def test_every_event_has_a_level_here():
    kinds = {type(event) for event, _ in LEVELS}
    assert kinds == {kind for name, kind in vars(observe).items() if attrs.has(kind) and name in observe.__all__}


def test_a_failed_update_is_logged_with_its_facts(caplog):
    LoggingObserver().on_event(UpdateSettled(FAILED))
    (record,) = caplog.records
    assert record.getMessage() == "update 7: not_sent: no connection"
    assert (record.request_id, record.index, record.state) == ("id-2", 7, "not_sent")


def test_another_logger_can_be_given(caplog):
    caplog.set_level(logging.INFO, "mine")
    LoggingObserver(logging.getLogger("mine")).on_event(SendingPaused(3.0))
    assert [record.name for record in caplog.records] == ["mine"]


@pytest.mark.parametrize("event", [event for event, _ in LEVELS])
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

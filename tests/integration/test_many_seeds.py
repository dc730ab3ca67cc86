"""Many lives of a client, drawn from seeds: see `simulation`, where the laws stand."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import weakref

import pytest

from altcraft_async.engine.run import Run
from altcraft_async.engine.work import WorkItem
from altcraft_async.protocol.states import OutcomeState
from samples import sampled
from simulation import live, try_seed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("untraced")]

BLOCK = 20


@pytest.fixture(autouse=True)
def quiet():
    """Outages are what these lives are made of, and each is logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", sampled(range(0, 100, BLOCK), 0))
def test_seeds_keep_the_laws(first):
    broken = [said for seed in range(first, first + BLOCK) if (said := try_seed(seed))]
    assert not broken, "\n".join(broken)


def test_a_seed_repeats_to_the_last_request():
    def sendings(seed):
        return [(sending.moment, sending.key) for sending in live(seed).network.ledger.sendings]

    assert sendings(7) == sendings(7)
    assert sendings(7) != sendings(8)


@pytest.mark.long
def test_the_lives_are_full_of_what_they_should_be_full_of():
    lives = [live(seed) for seed in range(25)]
    states = {told.state for life in lives for told in life.book.calls}
    assert states == set(OutcomeState) - {OutcomeState.INVALID}
    assert {kind for life in lives for kind in life.callers} == {"single", "run", "puts", "both"}
    assert sum(len(life.network.ledger.sendings) for life in lives) > 2 * sum(
        len(life.network.ledger.made) for life in lives
    )


def test_nothing_of_a_life_stays_in_memory():
    gc.collect()
    others = {id(thing) for thing in gc.get_objects() if type(thing) in {Run, WorkItem}}  # of errors that pytest keeps
    lives = [weakref.ref(live(seed)) for seed in range(5)]
    gc.collect()
    assert [life() for life in lives] == [None] * 5
    assert not [thing for thing in gc.get_objects() if type(thing) in {Run, WorkItem} and id(thing) not in others]


@pytest.mark.simulate
def test_ten_thousand_seeds_keep_the_laws():
    with multiprocessing.Pool(os.cpu_count()) as pool:
        broken = [said for said in pool.imap_unordered(try_seed, range(10_000), chunksize=50) if said]
    assert not broken, "\n".join(broken)

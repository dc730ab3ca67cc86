"""The sandbox's fault plan: repeatable, exact in its shares, obedient to its scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from altcraft_async.errors import ConfigurationError
from altcraft_async.sandbox import Fault, FaultKind, FaultPlan, Faults

UPDATE = "market/orders/update_order_line_status"
LINE = ("order_1", "line_1")


def dealt(faults: Faults, seed: int = 0, count: int = 200) -> list[Fault | None]:
    plan = FaultPlan(faults, seed)
    return [plan.next(UPDATE, LINE, 0.0) for _ in range(count)]


def test_no_faults_by_default() -> None:
    assert dealt(Faults()) == [None] * 200


@given(seed=st.integers())
def test_a_seed_gives_the_same_faults_again(seed: int) -> None:
    faults = Faults.mixed(0.5)
    assert dealt(faults, seed) == dealt(faults, seed)


def test_another_seed_gives_other_faults() -> None:
    assert dealt(Faults.mixed(0.5), 1) != dealt(Faults.mixed(0.5), 2)


def test_latencies_do_not_shift_the_faults() -> None:
    plan = FaultPlan(Faults.mixed(0.5, latency=0.1, jitter=0.5), 3)
    seen = []
    for _ in range(200):
        plan.latency()
        seen.append(plan.next(UPDATE, LINE, 0.0))
    assert seen == dealt(Faults.mixed(0.5), 3)


def test_a_script_does_not_shift_the_faults_behind_it() -> None:
    script = [Fault(FaultKind.RESET_AFTER)] * 5
    assert dealt(Faults.mixed(0.5, script=script), 3)[5:] == dealt(Faults.mixed(0.5), 3)[5:]


def test_mixed_deals_about_its_share_and_every_kind() -> None:
    faults = [fault for fault in dealt(Faults.mixed(0.1), count=20_000) if fault is not None]
    assert 1_800 < len(faults) < 2_200
    assert {(fault.kind, fault.status) for fault in faults if fault.kind is FaultKind.ERROR} == {
        (FaultKind.ERROR, status) for status in (429, 500, 502, 503)
    }
    assert {fault.kind for fault in faults} == set(FaultKind) - {
        FaultKind.DELAY,
        FaultKind.OVERSIZED,
        FaultKind.SLOW_BODY,
    }


def test_a_full_share_leaves_no_request_alone() -> None:
    assert {fault.kind for fault in dealt(Faults(reset_before=1.0)) if fault} == {FaultKind.RESET_BEFORE}
    assert None not in dealt(Faults(reset_before=1.0))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"reset_before": 0.6, "reset_after": 0.6}, "faults"),
        ({"error_500": -0.1}, "error_500"),
        ({"latency": float("nan")}, "latency"),
        ({"slots": 0}, "slots"),
        ({"rate": 0}, "rate"),
        ({"latency": 0.1, "jitter": 2.0}, "jitter"),
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, float], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Faults(**settings)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_script_names_the_faults_of_the_first_requests() -> None:
    reset = Fault(FaultKind.RESET_AFTER)
    assert dealt(Faults(script=[reset, None, reset]), count=5) == [reset, None, reset, None, None]


def test_a_callable_script_sees_number_and_path() -> None:
    seen: list[tuple[int, str]] = []

    def script(number: int, path: str) -> Fault | None:
        seen.append((number, path))
        return Fault(FaultKind.HTML) if number == 2 else None

    assert dealt(Faults(script=script), count=3) == [None, Fault(FaultKind.HTML), None]
    assert seen == [(1, UPDATE), (2, UPDATE), (3, UPDATE)]


def test_a_line_gets_its_own_faults_and_others_none() -> None:
    error = Fault(FaultKind.ERROR, status=503)
    plan = FaultPlan(Faults(lines={LINE: [error, None, error]}))
    assert [plan.next(UPDATE, ("order_1", "line_2"), 0.0) for _ in range(2)] == [None, None]
    assert [plan.next(UPDATE, LINE, 0.0) for _ in range(4)] == [error, None, error, None]


def test_a_lasting_fault_of_a_line_ends_after_its_seconds() -> None:
    error = Fault(FaultKind.ERROR, status=503, lasting=30.0)
    plan = FaultPlan(Faults(lines={LINE: error}))
    assert [plan.next(UPDATE, LINE, now) for now in (100.0, 129.0, 130.0)] == [error, error, None]


def test_a_callable_for_lines_counts_each_line_by_itself() -> None:
    seen = []
    plan = FaultPlan(Faults(lines=lambda order, line, nth: seen.append((order, line, nth))))
    for line in ("a", "b", "a"):
        plan.next(UPDATE, ("o", line), 0.0)
    assert seen == [("o", "a", 1), ("o", "b", 1), ("o", "a", 2)]


def test_only_the_named_methods_are_concerned() -> None:
    plan = FaultPlan(Faults(error_500=1.0, only=["market/orders/import"]))
    assert plan.next(UPDATE, LINE, 0.0) is None
    assert plan.next("market/orders/import", None, 0.0) is not None


def test_uniform_jitter_stays_within_its_bounds() -> None:
    plan = FaultPlan(Faults(latency=0.1, jitter=0.5))
    times = [plan.latency() for _ in range(1_000)]
    assert 0.05 <= min(times) < 0.06
    assert 0.14 < max(times) <= 0.15


def test_exponential_jitter_adds_its_mean() -> None:
    plan = FaultPlan(Faults(latency=0.1, jitter=0.5, jitter_form="exponential"))
    times = [plan.latency() for _ in range(5_000)]
    assert min(times) >= 0.1
    assert sum(times) / len(times) == pytest.approx(0.15, rel=0.05)


def test_the_rate_limit_lets_in_its_burst_and_then_its_rate() -> None:
    plan = FaultPlan(Faults(rate=10.0, burst=3))
    assert [plan.admit(0.0) for _ in range(4)] == [True, True, True, False]
    assert [plan.admit(0.1), plan.admit(0.1)] == [True, False]


@given(st.lists(st.floats(0.0, 0.5), max_size=200))
def test_the_rate_limit_never_lets_in_more_than_rate_and_burst(gaps: list[float]) -> None:
    plan = FaultPlan(Faults(rate=10.0, burst=5))
    now, let_in = 0.0, 0
    for gap in gaps:
        now += gap
        let_in += plan.admit(now)
    assert let_in <= 5 + 10 * now + 1

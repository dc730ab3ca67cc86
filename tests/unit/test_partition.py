from __future__ import annotations

from collections import Counter

import pytest

from altcraft_async.flow.partition import bucket_of


@pytest.mark.parametrize(("order", "bucket"), [("order_1", 18), ("order_2", 26), ("заказ-7", 29), ("", 52)])
def test_an_order_has_the_same_bucket_in_every_process_and_release(order, bucket):
    assert bucket_of(order, 64) == bucket


def test_orders_are_spread_evenly():
    counts = Counter(bucket_of(f"order_{number}", 64) for number in range(64_000))
    assert len(counts) == 64
    assert min(counts.values()) > 800
    assert max(counts.values()) < 1200

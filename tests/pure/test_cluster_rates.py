"""Rates hold over time, for all servers together and for each, and change while work goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weed_cluster import rates
from weed_cluster.rates import Rates


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    return clock


def spent(clock: Clock, limits: Rates, blocks: list[tuple[str, int]]) -> float:
    began = clock.now
    for server, size in blocks:
        limits.spend(server, size, clock.wait)
    return clock.now - began


def test_no_limit_never_waits(clock: Clock) -> None:
    assert spent(clock, Rates(), [("a", 1 << 40)]) == 0


def test_the_total_holds_over_all_servers(clock: Clock) -> None:
    assert spent(clock, Rates(total=1000), [("a", 5000), ("b", 5000)]) == pytest.approx(10, abs=rates.BURST)


def test_each_server_has_its_own_limit(clock: Clock) -> None:
    limits = Rates(per_server=1000)
    assert spent(clock, limits, [("a", 2000)]) == pytest.approx(2, abs=rates.BURST)
    assert spent(clock, limits, [("b", 100)]) < 0.2


def test_a_pause_saves_up_no_more_than_a_short_burst(clock: Clock) -> None:
    limits = Rates(total=1000)
    clock.wait(3600)
    assert spent(clock, limits, [("a", 2000)]) >= 2 - rates.BURST


def test_new_limits_hold_from_the_next_block_on(clock: Clock) -> None:
    limits = Rates(total=10, per_server=10)
    spent(clock, limits, [("a", 1)])
    limits.set(0, 0)
    assert spent(clock, limits, [("a", 1 << 30)]) == 0
    limits.set(0, 1000)
    assert spent(clock, limits, [("a", 4000)]) == pytest.approx(4, abs=rates.BURST)


def test_a_copy_among_servers_is_told_the_lowest_limit_that_is_set() -> None:
    assert Rates().for_server_side(0) == 0
    assert Rates().for_server_side(7) == 7
    assert Rates(total=100, per_server=50).for_server_side(0) == 50
    assert Rates(total=100).for_server_side(900) == 100


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 10_000)), min_size=1, max_size=30))
def test_a_rate_is_never_exceeded(blocks: list[tuple[str, int]]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "time", clock)
        took = spent(clock, Rates(total=1000), blocks)
    assert took >= sum(size for _, size in blocks) / 1000 - rates.BURST - 1e-6

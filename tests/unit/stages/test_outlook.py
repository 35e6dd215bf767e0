"""What a latency budget leaves of a network, before anything is tried."""

from __future__ import annotations

import pytest
from synthetic_coupling import Blocks, chain

from slimdeploy.stages.losses import planned_units
from slimdeploy.stages.outlook import SAFE_MACS, floor_ms, outlook
from slimdeploy.stages.planner import forecast_ms

COUPLING = chain()
UNITS = planned_units(COUPLING, 1, 0.1)
LAUNCHES = Blocks(fixed_ms=6.0)  # most of the time is a cost that no width changes
DENSE_MS = forecast_ms(COUPLING, COUPLING.whole(), LAUNCHES)


def foresee(asked_ms, forecast=LAUNCHES, stock=tuple):
    return outlook(COUPLING, UNITS, forecast, asked_ms, stock)


def test_costs_that_no_width_changes_are_named():
    assert floor_ms(COUPLING, LAUNCHES) == pytest.approx(6.0, rel=0.01)
    assert f"{floor_ms(COUPLING, LAUNCHES):.2f} ms of them" in foresee(0.9 * DENSE_MS).lines()[0]


def test_the_more_is_fixed_the_less_stays_at_the_same_speedup():
    fluid = Blocks(fixed_ms=0.0)
    fluid_ms = forecast_ms(COUPLING, COUPLING.whole(), fluid)
    assert foresee(DENSE_MS / 1.6).macs_left < 0.5 * foresee(fluid_ms / 1.6, fluid).macs_left


def test_a_budget_that_leaves_next_to_nothing_is_severe_and_the_advice_is_not():
    severe = foresee(1.02 * foresee(DENSE_MS).narrowest_ms)
    assert severe.severe
    assert f"speed-up of {severe.safe_speedup:.2f} or less" in severe.advice
    advised = foresee(DENSE_MS / severe.safe_speedup)
    assert advised.macs_left == pytest.approx(SAFE_MACS, abs=0.02)
    assert not advised.severe


def test_a_mild_budget_is_not_severe_and_asks_for_no_stock_scale():
    def never():
        raise AssertionError("asked for stock scales")

    assert not foresee(0.98 * DENSE_MS, stock=never).severe


@pytest.mark.parametrize(
    ("stock", "expected"),
    [
        pytest.param([("m", 9.0), ("s", 5.0), ("n", 4.0)], ("s", 5.0), id="the largest one that is as fast"),
        pytest.param([("m", 9.0), ("s", 8.0)], ("s", 8.0), id="the smallest one where none is"),
        pytest.param([], None, id="none where there is no smaller scale"),
    ],
)
def test_the_stock_scale_beside_a_severe_budget(stock, expected):
    assert foresee(6.05, stock=lambda: stock).stock == expected


def test_the_advice_names_a_stock_scale_only_if_it_is_as_fast():
    assert "train a s instead" in foresee(6.05, stock=lambda: [("s", 5.0)]).advice
    assert "instead" not in foresee(6.05, stock=lambda: [("s", 8.0)]).advice

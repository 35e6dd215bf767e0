"""Choosing widths for a number of milliseconds: records in, widths out."""

from __future__ import annotations

import itertools

import pytest
from synthetic_coupling import Blocks, chain

from slimdeploy.records import Sensitivity
from slimdeploy.stages.losses import costs_of, planned_units, trial_width
from slimdeploy.stages.planner import choose_widths, forecast_ms, saved_ms

COUPLING = chain()
EVEN = {group.name: (1.0,) * group.width for group in COUPLING.groups}


def costs(damages=(0.1, 0.1, 0.1), *, alignment=1, least_share=0.1, importance=EVEN):
    units = planned_units(COUPLING, alignment, least_share)
    tried = [
        Sensitivity(groups=u.names, width=u.width, tried=trial_width(u), damage=d, positives=(0, 0))
        for u, d in zip(units, damages, strict=True)
    ]
    return costs_of(units, importance, tried)


def whole_ms(forecast):
    return forecast_ms(COUPLING, COUPLING.whole(), forecast)


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
def test_the_widths_take_at_most_the_milliseconds_asked_for_and_nearly_all_of_them(share):
    budget = share * whole_ms(Blocks())
    found = forecast_ms(COUPLING, choose_widths(COUPLING, costs(), Blocks(), budget), Blocks())
    assert found <= budget
    assert found > 0.93 * budget


def test_a_budget_of_the_whole_network_keeps_every_width():
    assert choose_widths(COUPLING, costs(), Blocks(), whole_ms(Blocks())) == COUPLING.whole()


def test_a_budget_out_of_reach_gives_the_narrowest_widths():
    units = planned_units(COUPLING, 8, 0.25)
    narrowest = {name: unit.choices[0] for unit in units for name in unit.names}
    assert choose_widths(COUPLING, costs(alignment=8, least_share=0.25), Blocks(), 0.0) == narrowest


def test_the_halves_of_a_c2f_keep_equally_many_channels():
    for share in (0.8, 0.5, 0.3):
        found = choose_widths(COUPLING, costs(), Blocks(), share * whole_ms(Blocks()))
        assert found["cv1[0]"] == found["cv1[1]"]


def test_a_group_that_the_outputs_hang_on_stays_wider_than_one_that_they_do_not():
    budget = 0.5 * whole_ms(Blocks())
    even = choose_widths(COUPLING, costs((0.1, 0.1, 0.1)), Blocks(), budget)
    fragile = choose_widths(COUPLING, costs((0.1, 0.1, 5.0)), Blocks(), budget)
    assert fragile["cv2"] > even["cv2"]
    assert fragile["cv1[0]"] < even["cv1[0]"]


def test_channels_without_importance_go_first():
    idle = {**EVEN, "stem": (1.0,) * 8 + (0.0,) * 24}
    found = choose_widths(COUPLING, costs(importance=idle), Blocks(), 0.8 * whole_ms(Blocks()))
    assert found["stem"] == 8


def test_widths_stop_at_the_blocks_that_the_hardware_computes_together():
    found = choose_widths(COUPLING, costs(alignment=8), Blocks(block=16), 0.6 * whole_ms(Blocks(block=16)))
    assert [width for width in found.values() if width % 16] == []


def test_no_group_loses_more_than_the_least_share_allows():
    found = choose_widths(COUPLING, costs(least_share=0.5), Blocks(), 0.0)
    assert found == {"stem": 16, "cv1[0]": 8, "cv1[1]": 8, "cv2": 32}


def test_the_same_input_gives_the_same_widths():
    budget = 0.4 * whole_ms(Blocks())
    assert choose_widths(COUPLING, costs(), Blocks(), budget) == choose_widths(COUPLING, costs(), Blocks(), budget)


def test_milliseconds_saved_by_layer_add_up_to_those_of_the_network():
    found = choose_widths(COUPLING, costs(), Blocks(), 0.5 * whole_ms(Blocks()))
    saved = saved_ms(COUPLING, found, Blocks())
    assert sum(saved.values()) == pytest.approx(whole_ms(Blocks()) - forecast_ms(COUPLING, found, Blocks()))


def test_a_width_that_is_no_multiple_of_the_alignment_can_stay():
    units = {unit.names[0]: unit.choices for unit in planned_units(COUPLING, 24, 0.1)}
    assert units == {"stem": (24, 32), "cv1[0]": (16,), "cv2": (24, 48, 64)}


def test_a_loss_is_the_damage_of_the_trial_at_its_width_and_nothing_at_the_whole_width():
    cost = costs((0.3, 0.1, 0.1))[0]
    by_width = dict(zip(cost.unit.choices, cost.losses, strict=True))
    assert by_width[trial_width(cost.unit)] == pytest.approx(0.3)
    assert by_width[cost.unit.width] == 0.0


def test_a_loss_grows_faster_the_fewer_channels_are_left():
    losses = costs()[0].losses
    steps = [a - b for a, b in itertools.pairwise(losses)]
    assert steps == sorted(steps, reverse=True)

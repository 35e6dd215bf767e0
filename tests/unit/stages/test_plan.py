"""Deciding widths and kept channels: pure records in, a plan out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from synthetic_coupling import GROUPS

from slimdeploy.channels import ConvLayer, Coupling
from slimdeploy.configs import PruneConfig
from slimdeploy.errors import GateError, UsageError
from slimdeploy.records import KeptWhole
from slimdeploy.stages import plan as planning

SHA = "ab" * 32
OTHER_SHA = "cd" * 32


def conv(name, outputs, inputs, positions=100):
    return ConvLayer(name=name, outputs=outputs, inputs=inputs, kernel=9, positions=positions, scalars_per_output=2)


@pytest.fixture
def coupling():
    """image -> stem -> two halves of a C2f -> joined again by `cv2` -> `out`, the output."""
    return Coupling(
        imgsz=(64, 64),
        layers=(
            conv("stem", 32, 3, positions=400),
            conv("cv1[0]", 16, 32),
            conv("cv1[1]", 16, 32),
            conv("cv2", 64, 32),
            conv("out", 10, 64),
        ),
        groups=GROUPS,
        kept_whole=(KeptWhole(layer="out", width=10, why="an output"),),
        other_parameters=5,
    )


def rising(coupling):
    """Importance that rises with the position, so that the last channels stay."""
    return {g.name: tuple(float(i) for i in range(g.width)) for g in coupling.groups}


def make(coupling, importance=None, **settings):
    config = PruneConfig(imgsz=64, **settings)
    return planning.make_plan(coupling, importance or rising(coupling), config, weights_sha256=SHA)


def widths(plan):
    return {group.name: len(group.kept) for group in plan.groups}


def test_a_share_of_zero_keeps_every_channel(coupling):
    plan = make(coupling, channels=0.0)
    assert coupling.whole() == widths(plan)
    assert plan.reached == 0.0


def test_a_share_of_zero_keeps_even_a_width_that_is_no_multiple_of_the_alignment(coupling):
    assert coupling.whole() == widths(make(coupling, channels=0.0, alignment=24))


@pytest.mark.parametrize("alignment", [1, 4, 8])
def test_every_width_is_a_multiple_of_the_alignment(coupling, alignment):
    plan = make(coupling, channels=0.45, alignment=alignment)
    assert [group for group in plan.groups if len(group.kept) % alignment] == []


def test_half_of_the_channels_is_half_of_every_group(coupling):
    assert widths(make(coupling, channels=0.5)) == {"stem": 16, "cv1[0]": 8, "cv1[1]": 8, "cv2": 32}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.62])
def test_the_share_reached_is_that_of_the_widths(coupling, share):
    plan = make(coupling, channels=share, alignment=1)
    assert 1 - sum(widths(plan).values()) / 128 == pytest.approx(plan.reached)
    assert share == pytest.approx(plan.reached, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.75])
def test_a_budget_of_macs_is_met_by_the_macs_of_the_widths(coupling, share):
    plan = make(coupling, macs=share, alignment=1)
    assert plan.macs[1] == coupling.macs(widths(plan))
    assert share == pytest.approx(1 - plan.macs[1] / plan.macs[0], abs=0.02)


def test_the_halves_of_a_c2f_keep_equally_many_channels(coupling):
    for share in (0.1, 0.33, 0.57):
        kept = widths(make(coupling, channels=share, alignment=1))
        assert kept["cv1[0]"] == kept["cv1[1]"]


def test_no_group_falls_below_one_unit_of_alignment(coupling):
    assert min(widths(make(coupling, channels=0.74)).values()) == 8


def test_a_group_narrower_than_the_alignment_is_kept_whole_with_the_reason(coupling):
    plan = make(coupling, channels=0.25, alignment=32)
    assert widths(plan)["cv1[0]"] == 16
    whys = {one.layer: one.why for one in plan.kept_whole}
    assert whys["cv1[0]"] == "no narrower width is a multiple of 32"
    assert whys["out"] == "an output"


def test_rounding_is_mended_until_the_share_is_within_the_tolerance(coupling):
    plan = make(coupling, channels=0.2, alignment=16, tolerance=0.06)
    assert pytest.approx(plan.reached, abs=0.06) == 0.2


def test_a_share_out_of_reach_says_what_can_be_reached(coupling):
    with pytest.raises(GateError, match=r"the nearest is 75\.0%.*from 0\.0% to 75\.0%"):
        make(coupling, channels=0.9)


def test_the_weakest_channels_go_first(coupling):
    plan = make(coupling, channels=0.5)
    assert tuple(range(16, 32)) == plan.groups[0].kept


def test_channels_of_importance_zero_go_before_all_others(coupling):
    importance = rising(coupling) | {"stem": tuple(0.0 if i in (3, 20, 31) else 1e-12 for i in range(32))}
    plan = make(coupling, importance, channels=0.1, alignment=1)
    gone = set(range(32)) - set(plan.groups[0].kept)
    assert {3, 20, 31} == gone


def test_of_equal_channels_the_last_go(coupling):
    importance = {group.name: (1.0,) * group.width for group in coupling.groups}
    assert tuple(range(16)) == make(coupling, importance, channels=0.5).groups[0].kept


def test_the_same_request_gives_the_same_plan(coupling):
    assert make(coupling, macs=0.4, alignment=4) == make(coupling, macs=0.4, alignment=4)


def test_parameters_count_what_belongs_to_no_convolution(coupling):
    layers = {"stem": 32 * 29, "half": 16 * 290, "cv2": 64 * 290, "out": 10 * 578}
    assert sum(layers.values()) + layers["half"] + 5 == coupling.parameters(coupling.whole())


def test_a_plan_survives_being_written_and_read(coupling, tmp_path):
    plan = make(coupling, macs=0.5)
    planning.write_plan(plan, tmp_path / "plan.json")
    assert plan == planning.read_plan(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["schema"] == 1


def test_a_plan_tells_the_settings_that_it_was_made_with(coupling):
    assert PruneConfig(macs=0.4, imgsz=64, alignment=4) == planning.config_of(make(coupling, macs=0.4, alignment=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"groups": 3}, "not a prune plan", id="groups that are no list"),
        pytest.param({"surprise": 1}, "not a prune plan", id="an unknown key"),
        pytest.param({"imgsz": [64]}, "not a prune plan", id="one side"),
        pytest.param({"budget": "watts"}, "watts", id="an unknown budget"),
        pytest.param({"asked": 1.5}, "share of 1.5", id="a share above 1"),
        pytest.param({"schema": 99}, "schema 99", id="a newer schema"),
    ],
)
def test_a_damaged_plan_is_refused(coupling, tmp_path, change, message):
    path = tmp_path / "plan.json"
    planning.write_plan(make(coupling, channels=0.5), path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        planning.read_plan(path)


def test_a_plan_without_one_of_its_keys_is_refused(coupling, tmp_path):
    path = tmp_path / "plan.json"
    planning.write_plan(make(coupling, channels=0.5), path)
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["alignment"]
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(UsageError, match="not a prune plan"):
        planning.read_plan(path)


def test_a_plan_fits_the_weights_it_was_made_for(coupling):
    assert planning.require_fits(make(coupling, channels=0.5), coupling, weights_sha256=SHA) is None


def test_a_plan_for_other_weights_is_refused(coupling):
    with pytest.raises(UsageError, match=r"made for the weights abab.* not for cdcd"):
        planning.require_fits(make(coupling, channels=0.5), coupling, weights_sha256=OTHER_SHA)


def test_a_plan_for_other_shapes_is_refused(coupling):
    narrower = replace(coupling, groups=(replace(coupling.groups[0], width=24), *coupling.groups[1:]))
    with pytest.raises(UsageError, match="not those of the network"):
        planning.require_fits(make(coupling, channels=0.5), narrower, weights_sha256=SHA)


def test_a_plan_whose_positions_were_edited_is_refused(coupling):
    plan = make(coupling, channels=0.5)
    edited = replace(plan, groups=(replace(plan.groups[0], kept=(1, 2, 3)), *plan.groups[1:]))
    with pytest.raises(UsageError, match="parameters and MACs"):
        planning.require_fits(edited, coupling, weights_sha256=SHA)


def test_a_plan_that_narrows_the_halves_of_a_c2f_differently_is_refused(coupling):
    plan = make(coupling, channels=0.5)
    edited = replace(plan, groups=(plan.groups[0], replace(plan.groups[1], kept=(0,)), *plan.groups[2:]))
    with pytest.raises(UsageError, match="halves of a C2f"):
        planning.require_fits(edited, coupling, weights_sha256=SHA)

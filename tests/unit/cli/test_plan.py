"""`slimdeploy plan show` and `plan diff`, and the picture of a plan."""

from __future__ import annotations

import dataclasses
import json

import pytest
from synthetic_coupling import Blocks, chain
from typer.testing import CliRunner

from slimdeploy.cli import app
from slimdeploy.cli._plan_text import picture
from slimdeploy.configs import PruneConfig
from slimdeploy.errors import UsageError
from slimdeploy.records import PlannedLatency, Sensitivity
from slimdeploy.stages.plan import make_plan, write_plan
from slimdeploy.stages.planner import saved_ms

COUPLING = chain()
IMPORTANCE = {group.name: tuple(float(i) for i in range(group.width)) for group in COUPLING.groups}


def call(*argv):
    return CliRunner().invoke(app, [str(one) for one in ("plan", *argv)])


def half():
    return make_plan(COUPLING, IMPORTANCE, PruneConfig(channels=0.5, imgsz=64), weights_sha256="ab")


def timed():
    """The plan, as one for a latency on a board that is not at hand."""
    widths = {group.name: len(group.kept) for group in half().groups}
    latency = PlannedLatency(
        target="orin-nx-16gb", precision="fp16", source="model of a board", estimated=True, asked_ms=2.0,
        planned_ms=(4.0, 2.0), measured_ms=None, speedup=2.0, saved_ms=saved_ms(COUPLING, widths, Blocks()),
    )  # fmt: skip
    tried = Sensitivity(groups=("stem",), width=32, tried=16, damage=0.123, positives=(9, 7))
    whole = dataclasses.replace(tried, positives=(9, 4))
    return dataclasses.replace(
        half(), budget="speedup", asked=2.0, reached=2.0, latency=latency, sensitivities=(tried,), whole=whole
    )


@pytest.fixture
def file(tmp_path):
    write_plan(timed(), tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_a_plan_is_shown_layer_by_layer_with_what_it_saves(file):
    shown = call("show", file).stdout
    stem, _ = [line.split() for line in shown.splitlines() if line.startswith("stem ")]  # layer, and sensitivity
    assert stem[1:3] == ["32", "16"]
    assert float(stem[3]) == pytest.approx(timed().latency.saved_ms["stem"], abs=1e-3)
    assert stem[4] == "0.123"
    assert set(stem[5]) == {"█", "░"}
    assert "kept whole: out (10): an output" in shown


def test_the_groups_that_most_hangs_on_are_shown_in_order_with_a_bar_each(tmp_path):
    weak = Sensitivity(groups=("cv1[0]", "cv1[1]"), width=16, tried=8, damage=0.25, positives=(9, 8))
    strong = Sensitivity(groups=("cv2",), width=32, tried=16, damage=1.0, positives=(9, 0))
    write_plan(dataclasses.replace(timed(), sensitivities=(weak, strong)), tmp_path / "plan.json")
    lines = [line.rstrip() for line in call("show", tmp_path / "plan.json").stdout.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("most sensitive, 2 of 2"))
    assert lines[at + 1].split() == ["cv2", "32", "to", "16", "1.000", "0", "of", "9", "█" * 24]
    assert lines[at + 2].split() == ["cv1[0]", "and", "cv1[1]", "16", "to", "8", "0.250", "8", "of", "9", "█" * 6]


def test_a_plan_without_sensitivities_shows_no_table_of_them(tmp_path):
    write_plan(half(), tmp_path / "plan.json")
    assert "most sensitive" not in call("show", tmp_path / "plan.json").stdout


def test_a_plan_by_a_model_says_that_nothing_was_measured(file):
    assert "estimated, not measured: 2.00 times as fast" in call("show", file).stdout


def test_a_plan_says_what_it_does_to_what_the_network_finds(file):
    assert "4 anchors score on the images it was tried on, of 9 before" in call("show", file).stdout


def test_a_folder_of_prune_stands_for_its_plan(file):
    assert call("show", file.parent).stdout == call("show", file).stdout


def test_a_plan_as_json_is_the_plan(file):
    assert json.loads(call("show", file, "--json").stdout)["latency"]["estimated"] is True


def test_two_plans_differ_by_group(file, tmp_path):
    other = make_plan(COUPLING, IMPORTANCE, PruneConfig(channels=0.25, imgsz=64), weights_sha256="ab")
    write_plan(other, tmp_path / "other.json")
    shown = json.loads(call("diff", file, tmp_path / "other.json", "--json").stdout)
    assert {"group": "stem", "width": 32, "kept": [16, 24], "shared": 16} in shown["groups"]
    assert shown["same_weights"]


def test_a_plan_does_not_differ_from_itself(file):
    assert "the plans keep the same channels" in call("diff", file, file).stdout


def test_plans_of_different_networks_are_refused(file, tmp_path):
    narrow = dataclasses.replace(half(), groups=half().groups[:1])
    write_plan(narrow, tmp_path / "narrow.json")
    result = call("diff", file, tmp_path / "narrow.json")
    assert isinstance(result.exception, UsageError)


def test_a_bar_is_as_long_as_its_layer_is_wide():
    assert picture(64, 64, 64) == "█" * 24
    assert picture(16, 32, 64) == "█" * 6 + "░" * 6

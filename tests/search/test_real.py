"""A search with real trainings: rendered scenes, 64 px, one epoch of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slimdeploy.bundle.pack import verify
from slimdeploy.configs import SceneConfig
from slimdeploy.data.scenes import render_dataset
from slimdeploy.recipes import read_recipe
from slimdeploy.search import best, run
from slimdeploy.search.trial import DONE, STOPPED

RECIPE = """
data = "scenes/data.yaml"
imgsz = 64
[train]
epochs = 1
batch = 8
device = "cpu"
[prune]
channels = 0.5
criterion = "bn_gamma"  # quicker than the default
reconstruct_images = 8
[finetune]
epochs = 1
batch = 8
device = "cpu"
[export]
check_images = 2
box_tolerance_px = 4
[bench]
samples = 12
rounds = 6
warmup_limit_s = 0.5
"""
SEARCH = """
recipe = "recipe.toml"
seed = 1
batch = 2
[space]
prune.channels = [0.25, 0.5]
finetune.lr0 = [0.001, 0.002]
[constraints]
max_p50_ms = {limit_ms}
[budget]
trials = {trials}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with scenes and a recipe."""
    folder = tmp_path_factory.mktemp("search")
    render_dataset(folder / "scenes", SceneConfig(train=16, val=8, size_px=64))
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def found(place):
    """A search of three trials, and its folder."""
    (place / "search.toml").write_text(SEARCH.format(limit_ms=5000, trials=3), encoding="utf-8")
    return run.start(place / "search.toml", place / "out", run.Options()), place / "out"


def test_trials_are_trained_pruned_exported_scored_and_timed(found):
    view, _ = found
    assert [(one.state, one.why) for one in view.records] == [(DONE, "")] * 3
    figures = view.records[0].figures
    assert 0 <= figures["map50_95"] <= 1
    assert figures["p50_ms"] > 0
    assert figures["size_mb"] > 1


def test_the_dense_training_is_made_once(found):
    view, _ = found
    trained = [step for one in view.records for step in one.steps if step["stage"] == "train" and not step["hit"]]
    assert len(trained) == 1


def test_the_winner_is_a_whole_bundle_and_a_recipe_that_reads(found, tmp_path):
    view, folder = found
    chosen = best.best(folder, tmp_path / "best", {})
    assert verify(tmp_path / "best" / "bundle")["model"]["precision"] == "fp32"
    recipe = read_recipe(tmp_path / "best" / "recipe.toml")
    assert recipe.prune.channels == chosen.values["prune.channels"]
    assert recipe.data.is_file()
    assert chosen.figures["map50_95"] == max(one.figures["map50_95"] for one in view.records)


def test_a_network_that_is_too_slow_once_pruned_is_not_fine_tuned(place, found):
    (place / "strict.toml").write_text(SEARCH.format(limit_ms=0.001, trials=1), encoding="utf-8")
    options = dataclasses.replace(run.Options(), cache=str(found[1] / "cache"))
    view = run.start(place / "strict.toml", place / "strict", options)
    (one,) = view.records
    assert one.state == STOPPED
    assert "pruned, its p50_ms is" in one.why
    assert "finetune" not in [step["stage"] for step in one.steps]

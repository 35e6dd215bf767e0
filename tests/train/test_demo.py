"""The quick demo asks of a network of one epoch only what it can keep."""

from __future__ import annotations

import pytest

from slimdeploy import demo
from slimdeploy.recipes import Recipe


@pytest.fixture
def recipe_of(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "run_recipe", lambda recipe, out: recipe)

    def run(*, quick: bool) -> Recipe:
        if not quick:
            monkeypatch.setattr(demo, "SceneConfig", lambda: demo.QUICK_SCENES)  # the scenes do not matter here
        return demo.run_demo(tmp_path / str(quick), quick=quick)

    return run


def tolerances(recipe: Recipe) -> dict[str, float]:
    return {config.precision: config.box_tolerance_px for config in recipe.export}


def test_a_quick_demo_lets_half_precision_move_boxes_that_mean_nothing_yet(recipe_of):
    assert tolerances(recipe_of(quick=True)) == {"fp32": 1.0, "fp16": demo.QUICK_TOLERANCE_PX}


def test_the_demo_itself_holds_half_precision_to_a_pixel(recipe_of):
    assert tolerances(recipe_of(quick=False)) == {"fp32": 1.0, "fp16": 1.0}

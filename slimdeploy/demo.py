"""The demo: the whole way on rendered scenes, small enough for a laptop without a GPU."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from slimdeploy.configs import SceneConfig
from slimdeploy.pipeline import run_recipe
from slimdeploy.recipes import read_recipe
from slimdeploy.records import Report

SCENES = "scenes"
RUN = "run"
RECIPE = "demo.toml"  # beside this file, shipped in the wheel


def run_demo(out: Path, config: SceneConfig | None = None) -> Report:
    """Render scenes unless they are there already, and run the demo's recipe on them.

    Args:
        out: the demo's folder; a demo that was interrupted goes on in it.
        config: what to render; the default fits the recipe.

    Returns:
        The report; its forms lie in `out/run/report`.
    """
    from slimdeploy.data.scenes import render_dataset

    data = out / SCENES / "data.yaml"
    if not data.exists():
        render_dataset(out / SCENES, config or SceneConfig())
    with as_file(files("slimdeploy") / RECIPE) as recipe:
        return run_recipe(read_recipe(recipe, data=data), out / RUN)

"""The demo: the whole way on rendered scenes, small enough for a laptop without a GPU."""

from __future__ import annotations

import dataclasses
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from slimdeploy._needs import require
from slimdeploy.configs import SceneConfig
from slimdeploy.pipeline import run_recipe
from slimdeploy.recipes import Recipe, read_recipe
from slimdeploy.records import Report

SCENES = "scenes"
RUN = "run"
RECIPE = "demo.toml"  # beside this file, shipped in the wheel
QUICK_SCENES = SceneConfig(train=32, val=16, size_px=128)


def run_demo(out: Path, *, quick: bool = False) -> Report:
    """Render scenes unless they are there already, and run the demo's recipe on them.

    Args:
        out: the demo's folder; a demo that was interrupted goes on in it.
        quick: one epoch of everything on a few small scenes: shows that all works, and nothing of accuracy.

    Returns:
        The report; its forms lie in `out/run/report`.

    Raises:
        MissingDependency: the extra `train` is not installed.
    """
    require("train")
    from slimdeploy.data.scenes import render_dataset

    data = out / SCENES / "data.yaml"
    if not data.exists():
        render_dataset(out / SCENES, QUICK_SCENES if quick else SceneConfig())
    with as_file(files("slimdeploy") / RECIPE) as path:
        recipe = read_recipe(path, data=data)
    return run_recipe(_quickened(recipe) if quick else recipe, out / RUN)


def _quickened(recipe: Recipe) -> Recipe:
    one: dict[str, Any] = {"epochs": 1, "imgsz": QUICK_SCENES.size_px, "close_mosaic": 0}
    imgsz = (QUICK_SCENES.size_px, QUICK_SCENES.size_px)
    return dataclasses.replace(
        recipe,
        title=f"{recipe.title} (quick: one epoch of everything)",
        train=recipe.train and dataclasses.replace(recipe.train, **one),
        sparsify=recipe.sparsify and dataclasses.replace(recipe.sparsify, **one),
        finetune=recipe.finetune and dataclasses.replace(recipe.finetune, **one),
        prune=dataclasses.replace(recipe.prune, imgsz=QUICK_SCENES.size_px),
        export=tuple(dataclasses.replace(config, imgsz=imgsz) for config in recipe.export),
        bench=dataclasses.replace(recipe.bench, samples=60, rounds=6),
        val=dataclasses.replace(recipe.val, imgsz=QUICK_SCENES.size_px),
    )

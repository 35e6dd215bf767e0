"""A search on real photographs at a reduced budget: every trial, and the Pareto front.

    SLIMDEPLOY_DATA=/path/to/data python benchmarks/search_aerial_cars.py --out searches/aerial --save
    SLIMDEPLOY_DATA=/path/to/data python benchmarks/search_aerial_cars.py --out searches/aerial --resume --save

Few epochs and small inputs, so that a trial takes minutes on 2 cores; the figures say how trials stand to one another,
and not what a whole training reaches. No bar.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.cli.search import as_text
from slimdeploy.lineage import write_json
from slimdeploy.search import run
from slimdeploy.search.view import as_document

RECIPE = """
title = "YOLOv8n on aerial photographs, searched at a reduced budget"
data = "${{SLIMDEPLOY_DATA}}/aerial_cars/data.yaml"
{weights}
target = "cpu"
{train}
[prune]
channels = 0.5
[finetune]
epochs = {epochs}
close_mosaic = 1
[export]
calibration_images = 64
[bench]
samples = 200
rounds = 10
"""
TRAIN = """
[train]
epochs = {epochs}
close_mosaic = 1
"""
SEARCH = """
recipe = "recipe.toml"
objectives = ["map50_95", "p50_ms", "size_mb"]
seed = 0
[space]
imgsz = [192, 256]
prune.channels = {{ low = 0.2, high = 0.7, step = 0.1 }}
prune.criterion = ["bn_gamma", "magnitude"]
export.precision = ["fp32", "int8"]
[budget]
trials = {trials}
[trial]
cpus = {cpus}
"""


def main() -> None:
    """Search, print the table, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the search's folder")
    parser.add_argument("--weights", type=Path, help="a dense checkpoint; else one is trained for each input size")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--dense-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2, help="of each fine-tuning")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--cache", default="", help="where stages are kept; else in the search's folder")
    parser.add_argument("--resume", action="store_true", help="go on with a search that was stopped")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    if asked.resume:
        view = run.go_on(asked.out, run.Options(cache=asked.cache))
    else:
        beside = asked.out.with_name(f"{asked.out.name}-asked")
        beside.mkdir(parents=True, exist_ok=True)
        weights = f'weights = "{asked.weights.resolve().as_posix()}"' if asked.weights else ""
        train = "" if asked.weights else TRAIN.format(epochs=asked.dense_epochs)
        recipe = RECIPE.format(weights=weights, train=train, epochs=asked.epochs)
        (beside / "recipe.toml").write_text(recipe, encoding="utf-8")
        search = beside / "search.toml"
        search.write_text(SEARCH.format(trials=asked.trials, cpus=asked.cpus), encoding="utf-8")
        view = run.start(search, asked.out, run.Options(cache=asked.cache))
    print(as_text(view))
    print(f"\nreport: {asked.out / 'report.html'}")
    if asked.save:
        told = as_document(dataclasses.replace(view, running={}))
        record = {"schema": 1, "benchmark": "search_aerial_cars", "search": told, "environment": environment()}
        write_json(result_path("search_aerial_cars"), record)


if __name__ == "__main__":
    main()

"""What a trial of a search costs beyond its stages, and what a stage costs that is kept already.

    python benchmarks/search_overhead.py --save
    python benchmarks/search_overhead.py --engine ray --save

Real trials on rendered scenes, 64 px, one epoch a training. A trial's overhead is its time less the seconds that the
run.json of each stage that it made tells. Then the same search again in another folder with the same cache, so that
every stage is a hit. Bars: an overhead under 5 s, a hit under 1 s.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.configs import SceneConfig
from slimdeploy.data.scenes import render_dataset
from slimdeploy.lineage import read_run, write_json
from slimdeploy.search import run
from slimdeploy.search.view import View

OVERHEAD_BAR_S, HIT_BAR_S = 5.0, 1.0
RECIPE = """
data = "scenes/data.yaml"
imgsz = 64
[train]
epochs = 1
batch = 8
device = "cpu"
[prune]
channels = 0.5
[finetune]
epochs = 1
batch = 8
device = "cpu"
[export]
check_images = 2
box_tolerance_px = 4
[bench]
samples = 60
rounds = 6
"""
SEARCH = """
recipe = "recipe.toml"
[space]
prune.channels = [0.25, 0.5]
finetune.lr0 = {{ low = 0.0005, high = 0.004, log = true }}
[budget]
trials = {trials}
"""


def measure(folder: Path, engine: str, trials: int) -> dict[str, Any]:
    """Search twice with one cache; return overheads, and seconds of hits."""
    render_dataset(folder / "scenes", SceneConfig(train=32, val=8, size_px=64))
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    search = folder / "search.toml"
    search.write_text(SEARCH.format(trials=trials), encoding="utf-8")
    cache = folder / "cache"
    options = run.Options(engine=engine, cache=str(cache))
    first = run.start(search, folder / "first", options)
    again = run.start(search, folder / "again", options)
    for view in (first, again):
        failed = [one.why for one in view.records if one.why]
        if failed:
            raise SystemExit(f"a trial failed: {failed[0]}")
    return {
        "overheads_s": _overheads(first, cache),
        "hits_s": [step["seconds"] for one in again.records for step in one.steps if step["hit"]],
        "made_again": sum(not step["hit"] for one in again.records for step in one.steps),
        "trials_of_hits_s": [one.seconds for one in again.records],
    }


def _overheads(view: View, cache: Path) -> list[float]:
    found = []
    for one in view.records:
        made_s = sum(read_run(cache / step["key"])["seconds"] for step in one.steps if not step["hit"])
        found.append(round((one.seconds or 0.0) - made_s, 3))
    return found


def main() -> None:
    """Measure, print each figure beside its bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), asked.engine, asked.trials)
    first, *later = found["overheads_s"]
    for told, worst, bar_s in (
        ("overhead of the first trial, its process begun", first, OVERHEAD_BAR_S),
        (f"overhead of later trials, median {median(later):.2f} s, worst", max(later), OVERHEAD_BAR_S),
        (f"stages kept already, median {median(found['hits_s']):.3f} s, worst", max(found["hits_s"]), HIT_BAR_S),
    ):
        print(f"{told}: {worst:.2f} s; bar {bar_s:g} s: {'met' if worst < bar_s else 'NOT met'}")
    print(f"stages made again although they were kept: {found['made_again']}")
    if asked.save:
        record = {"schema": 1, "benchmark": "search_overhead", "engine": asked.engine, "overhead_bar_s": OVERHEAD_BAR_S,
                  "hit_bar_s": HIT_BAR_S, **found, "environment": environment()}  # fmt: skip
        write_json(result_path(f"search_overhead_{asked.engine}"), record)


if __name__ == "__main__":
    main()

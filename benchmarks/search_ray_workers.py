"""Throughput of training-bound trials on two Ray workers against one, one thread each.

    python benchmarks/search_ray_workers.py --save

A real Ray cluster on the loopback interface, of one node with one CPU and then of two such nodes; each trial is a dense
training of its own on rendered scenes. Bar: 1.7 times the throughput on 2 cores. The time runs from the first stage's
begin to the last stage's end, so that the start of the cluster is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.configs import SceneConfig
from slimdeploy.data.scenes import render_dataset
from slimdeploy.lineage import read_run, write_json
from slimdeploy.search import run

BAR = 1.7
WALK = "search_ray_workers:walk"
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
RECIPE = """
data = "scenes/data.yaml"
imgsz = 128
[train]
epochs = {epochs}
batch = 8
device = "cpu"
[prune]
channels = 0.5
"""
SEARCH = """
recipe = "recipe.toml"
objectives = ["size_mb"]
sampler = "random"
batch = {trials}
[space]
train.lr0 = {{ low = 0.0005, high = 0.004, log = true }}
[budget]
trials = {trials}
"""


def walk(job: Any, keep: Callable[..., Path]) -> dict[str, Any]:
    """Train a dense network, and nothing else."""
    from slimdeploy.pipeline import Way
    from slimdeploy.recipes import recipe_from

    recipe = recipe_from(job.recipe, Path(job.place))
    dense = Way(recipe, keep, trust=False).dense()
    return {"figures": {"size_mb": dense.stat().st_size / 1e6}, "bundle": ""}


def measure(nodes: int, trials: int, folder: Path) -> dict[str, Any]:
    """Search on a cluster of so many nodes; return the seconds that the trainings took side by side."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        out = folder / f"on-{nodes}"
        view = run.start(folder / "search.toml", out, run.Options(engine="ray", address=cluster.address, walk=WALK))
    finally:
        cluster.shutdown()
    failed = [one.why for one in view.records if one.why]
    if failed:
        raise SystemExit(f"a trial failed: {failed[0]}")
    runs = [out / "cache" / step["key"] for one in view.records for step in one.steps]
    ended = [(place / "run.json").stat().st_mtime for place in runs]
    took_s = [read_run(place)["seconds"] for place in runs]
    began = [end - took for end, took in zip(ended, took_s, strict=True)]
    return {"nodes": nodes, "seconds": round(max(ended) - min(began), 2), "trainings_s": took_s}


def main() -> None:
    """Measure both, print the ratio beside its bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_dataset(folder / "scenes", SceneConfig(train=asked.images, val=8, size_px=128))
        (folder / "recipe.toml").write_text(RECIPE.format(epochs=asked.epochs), encoding="utf-8")
        (folder / "search.toml").write_text(SEARCH.format(trials=asked.trials), encoding="utf-8")
        rows = []
        for nodes in (1, 2):
            rows.append(row := measure(nodes, asked.trials, folder))
            print(f"{nodes} node{'s' if nodes > 1 else ''}: {asked.trials} trainings in {row['seconds']:.1f} s")
            time.sleep(2)
    ratio = rows[0]["seconds"] / rows[1]["seconds"]
    print(f"two against one: {ratio:.2f} times; bar {BAR}: {'met' if ratio >= BAR else 'NOT met'}")
    if asked.save:
        record = {"schema": 1, "benchmark": "search_ray_workers", "bar": BAR, "ratio": ratio, "rows": rows,
                  "environment": environment()}  # fmt: skip
        write_json(result_path("search_ray_workers"), record)


if __name__ == "__main__":
    main()

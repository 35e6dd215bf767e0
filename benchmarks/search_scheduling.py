"""What it costs to choose, hand out and note trials of zero work, and how that grows with their number.

    python benchmarks/search_scheduling.py --save
    python benchmarks/search_scheduling.py --sampler random --save

A whole search of 1,000 trials whose walk returns at once: Optuna's choice, the process, SQLite, the notes on disk. No
bar; the growth is told as the time of each hundred.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.lineage import write_json
from slimdeploy.search import run

WALK = "search_scheduling:walk"
RECIPE = """
data = "data.yaml"
weights = "dense.pt"
[prune]
channels = 0.5
[finetune]
epochs = 1
"""
SEARCH = """
recipe = "recipe.toml"
sampler = "{sampler}"
[space]
imgsz = [64, 96, 128]
prune.channels = {{ low = 0.1, high = 0.9 }}
finetune.lr0 = {{ low = 0.0001, high = 0.1, log = true }}
[budget]
trials = {trials}
"""


def walk(job: Any, keep: Callable[..., Path]) -> dict[str, Any]:
    """Return figures at once, as a trial without stages."""
    channels, lr0 = job.recipe["prune"]["channels"], job.recipe["finetune"]["lr0"]
    score = 0.7 - 0.4 * channels**2 - abs(lr0 - 0.01)
    p50_ms = (1 - channels) * job.recipe["imgsz"] / 10 + 1
    return {"figures": {"map50_95": score, "p50_ms": p50_ms, "size_mb": 12 * (1 - channels)}, "bundle": ""}


def measure(sampler: str, trials: int, folder: Path) -> list[float]:
    """Search, and return when each trial ended, in seconds since the search began."""
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "search.toml").write_text(SEARCH.format(sampler=sampler, trials=trials), encoding="utf-8")
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    started = time.time()  # what the files' times are told by
    view = run.start(folder / "search.toml", folder / "out", run.Options(walk=WALK))
    assert [one.why for one in view.records] == [""] * trials
    ended = sorted(path.stat().st_mtime for path in (folder / "out" / "trials").iterdir())
    return [round(at - started, 3) for at in ended]


def main() -> None:
    """Measure, print the time of each hundred, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sampler", choices=("tpe", "nsga2", "random"), default="tpe")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ended_s = measure(asked.sampler, asked.trials, Path(folder))
    each = max(1, asked.trials // 10)
    marks = [0.0, *ended_s[each - 1 :: each]]
    for number, (before, after) in enumerate(itertools.pairwise(marks), start=1):
        print(f"trials up to {number * each}: {1000 * (after - before) / each:.0f} ms each")
    print(f"all: {ended_s[-1]:.1f} s, {1000 * ended_s[-1] / len(ended_s):.0f} ms a trial")
    if asked.save:
        record = {"schema": 1, "benchmark": "search_scheduling", "sampler": asked.sampler, "ended_s": ended_s,
                  "environment": environment()}  # fmt: skip
        write_json(result_path(f"search_scheduling_{asked.sampler}"), record)


if __name__ == "__main__":
    main()

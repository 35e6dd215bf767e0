"""How long VisDrone's official protocol takes on the whole val split.

    SLIMDEPLOY_DATA=/path/to/data python benchmarks/visdrone_scorer.py --save

Bar: 60 s for the 548 official annotation files, with 500 detections an image. The detections are the annotated boxes,
moved, missed, doubled or of wrong classes by chance, and boxes from nowhere: what is timed does not depend on a model.
"""

from __future__ import annotations

import argparse
import os
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from _results import result_path

from slimdeploy.accuracy.visdrone import figures, judge
from slimdeploy.accuracy.visdrone_match import Found
from slimdeploy.bench.environment import environment
from slimdeploy.data import visdrone
from slimdeploy.lineage import write_json

NAME = "visdrone_scorer"
BAR_S = 60.0
DETECTIONS = 500
REPEATS = 3
SEED = 0


def read_annotations() -> list[visdrone.Rows]:
    """Return the rows of every official val file."""
    packed = Path(os.environ["SLIMDEPLOY_DATA"]) / "visdrone_val_annotations.tar.gz"
    with tempfile.TemporaryDirectory() as folder, tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
        return [visdrone.read_rows(path) for path in sorted(Path(folder).rglob("*.txt"))]


def detections(
    rows: visdrone.Rows, size: tuple[int, int], rng: np.random.Generator, *, most: int = DETECTIONS
) -> Found:
    """Return detections of one image, best score first."""
    own = rows[visdrone.is_object(rows)]
    own = np.concatenate([own[rng.random(len(own)) < share] for share in (0.9, 0.5)])[:most]
    boxes = own[:, :4] + rng.normal(0, 0.1, (len(own), 4)) * own[:, [2, 3, 2, 3]]
    category = np.where(rng.random(len(own)) < 0.1, rng.integers(1, 11, len(own)), own[:, visdrone.CATEGORY])
    missing = most - len(own)
    nowhere = rng.uniform(0, 1, (missing, 4)) * [size[1], size[0], 80, 80]
    boxes = np.maximum(np.concatenate([boxes, nowhere]), 0)
    category = np.concatenate([category, rng.integers(1, 11, missing)])
    scores = np.sort(rng.random(most))[::-1]
    order = rng.permutation(most)
    return Found(ltwh=boxes[order], scores=scores, category=category[order])


def main() -> None:
    """Score the split, print the median beside the bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    save = parser.parse_args().save
    rows = read_annotations()
    rng = np.random.default_rng(SEED)
    sizes = [tuple((own[:, [1, 0]] + own[:, [3, 2]]).max(axis=0).tolist()) for own in rows]
    found = [detections(own, size, rng) for own, size in zip(rows, sizes, strict=True)]
    samples_s, cpu_s = [], []
    for _ in range(REPEATS):
        started, cpu_started = time.perf_counter(), time.process_time()
        judged = judge(found, rows, sizes)
        samples_s.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - cpu_started)
    median_s = float(np.median(samples_s))
    verdict = "met" if median_s <= BAR_S else "NOT met"
    print(f"{len(rows)} images, {DETECTIONS} detections each: median {median_s:.1f} s of {REPEATS}, "
          f"{min(samples_s):.1f} to {max(samples_s):.1f} s, {np.median(cpu_s):.1f} s of it computing; "
          f"bar {BAR_S:.0f} s: {verdict}")  # fmt: skip
    if save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "images": len(rows),
            "detections_per_image": DETECTIONS,
            "bar_s": BAR_S,
            "median_s": median_s,
            "samples_s": samples_s,
            "cpu_s": cpu_s,
            "figures_of_made_up_detections": figures(judged),
            "environment": environment(),
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

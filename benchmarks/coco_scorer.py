"""How fast COCO's metric is scored, against pycocotools on the same boxes.

    SLIMDEPLOY_DATA=/path/to/data python benchmarks/coco_scorer.py --save

Bar: at least 5 times as fast as pycocotools, each from the same arrays of boxes to the same twelve figures, which may
differ by 1e-6 at most. The images are every sixth of VisDrone's official val annotations, with 300 detections each: the
annotated boxes, moved, missed, doubled or of wrong classes by chance, and boxes from nowhere. What is timed does not
depend on a model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from _results import result_path
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from visdrone_scorer import detections, read_annotations

from slimdeploy.accuracy import coco
from slimdeploy.accuracy.boxes import Truths
from slimdeploy.bench.environment import environment
from slimdeploy.board.boxes import Detections
from slimdeploy.data import visdrone
from slimdeploy.lineage import write_json

NAME = "coco_scorer"
BAR = 5.0
DETECTIONS = 300
EVERY = 6  # of the images; pycocotools takes minutes for all of them
REPEATS = 3
SEED = 0
TOLERANCE = 1e-6


def boxes() -> tuple[list[Detections], list[Truths]]:
    """Return made-up detections and the annotated objects of every image."""
    rng = np.random.default_rng(SEED)
    found, held = [], []
    for rows in read_annotations()[::EVERY]:
        size = tuple((rows[:, [1, 0]] + rows[:, [3, 2]]).max(axis=0).tolist())
        own = rows[visdrone.is_object(rows)]
        held.append(Truths(xyxy=visdrone.xyxy(own), labels=own[:, visdrone.CATEGORY] - 1, size=size))
        seen = detections(rows, size, rng, most=DETECTIONS)
        xyxy = np.concatenate([seen.ltwh[:, :2], seen.ltwh[:, :2] + seen.ltwh[:, 2:]], axis=1)
        found.append(
            Detections(xyxy=xyxy.astype(np.float32), scores=seen.scores.astype(np.float32), labels=seen.category - 1)
        )
    return found, held


def by_pycocotools(found: Sequence[Detections], held: Sequence[Truths], max_det: int) -> dict[str, float]:
    """Return pycocotools' twelve figures, and AP50-95 by class, from the arrays that `coco.score` gets."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _dataset(held)
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(_results(found)), "bbox")
        judge.params.maxDets = [1, 10, max_det]
        judge.evaluate()
        judge.accumulate()
    precision, recall = judge.eval["precision"], judge.eval["recall"]  # (IoUs, recalls, classes, areas, most)
    figures = {"map50_95": precision[:, :, :, 0, -1], "map50": precision[0, :, :, 0, -1]}
    figures |= {"ap75": precision[5, :, :, 0, -1]}
    for i, area in enumerate(("small", "medium", "large"), start=1):
        figures |= {f"ap_{area}": precision[:, :, :, i, -1], f"ar_{area}": recall[:, :, i, -1]}
    figures |= {name: recall[:, :, 0, i] for i, name in enumerate(("ar1", "ar10", "ar"))}
    figures |= {f"class {label}": precision[:, :, i, 0, -1] for i, label in enumerate(judge.params.catIds)}
    return {name: float(values[values > -1].mean()) for name, values in figures.items() if (values > -1).any()}


def _dataset(held: Sequence[Truths]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, truth in enumerate(held, start=1):
        for (x0, y0, x1, y1), label in zip(truth.xyxy.tolist(), truth.labels.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "category_id": label}
            annotations.append(box | {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0})
    present = sorted({one["category_id"] for one in annotations})
    return {
        "info": {},
        "images": [{"id": number} for number in range(1, len(held) + 1)],
        "annotations": annotations,
        "categories": [{"id": label} for label in present],
    }


def _results(found: Sequence[Detections]) -> np.ndarray[Any, Any]:
    """Return detections in the layout that pycocotools reads fastest: image, box, score, class; (n, 7)."""
    image = np.repeat(np.arange(1, len(found) + 1), [len(one.scores) for one in found])
    xyxy = np.concatenate([one.xyxy for one in found])
    ltwh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    scores, labels = np.concatenate([one.scores for one in found]), np.concatenate([one.labels for one in found])
    return np.column_stack([image, ltwh, scores, labels]).astype(np.float64)


def by_slimdeploy(found: Sequence[Detections], held: Sequence[Truths], max_det: int) -> dict[str, float]:
    """Return ours."""
    scores = coco.score(found, held, max_det)
    per_class = {f"class {label}": ap for label, ap in scores.per_class.items()}
    return {"map50_95": scores.map50_95, "map50": scores.map50, **scores.figures, **per_class}


def timed(run: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    """Return the seconds that a call took, and what it gave."""
    started = time.perf_counter()
    figures = run()
    return time.perf_counter() - started, figures


def main() -> None:
    """Score by turns with both, print the ratio beside the bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    save = parser.parse_args().save
    found, held = boxes()
    ours_s, theirs_s = [], []
    for _ in range(REPEATS):
        seconds, ours = timed(lambda: by_slimdeploy(found, held, DETECTIONS))
        ours_s.append(seconds)
        seconds, theirs = timed(lambda: by_pycocotools(found, held, DETECTIONS))
        theirs_s.append(seconds)
    apart = max(abs(ours[name] - figure) for name, figure in theirs.items())
    ratio = statistics.median(theirs_s) / statistics.median(ours_s)
    met = "met" if ratio >= BAR and apart <= TOLERANCE else "NOT met"
    print(f"{len(held)} images, {DETECTIONS} detections each: {statistics.median(ours_s):.2f} s, pycocotools "
          f"{statistics.median(theirs_s):.2f} s: {ratio:.1f} times as fast, figures within {apart:.1e}; "
          f"bar {BAR:g} times and {TOLERANCE:g}: {met}")  # fmt: skip
    if save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "images": len(held),
            "detections_per_image": DETECTIONS,
            "bar": BAR,
            "ratio": ratio,
            "largest_difference": apart,
            "samples_s": {"slimdeploy": ours_s, "pycocotools": theirs_s},
            "figures_of_made_up_detections": {"slimdeploy": ours, "pycocotools": theirs},
            "environment": environment(),
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

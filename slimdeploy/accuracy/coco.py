"""Score boxes as COCO does, with faster-coco-eval; no AP arithmetic of our own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from slimdeploy.accuracy.boxes import Scores, Truths
from slimdeploy.board.boxes import Detections

log = logging.getLogger("slimdeploy.accuracy")

COCO_RECALLS = np.linspace(0, 1, 101)  # AP is the mean precision at these
STEPS_BETWEEN = 10  # finer recalls for the precision and recall of one confidence

Curves = npt.NDArray[np.float64]  # (classes, recalls)


def score(detections: Sequence[Detections], truths: Sequence[Truths], max_det: int) -> Scores:
    """Score a split with COCO's metric, over objects of all sizes.

    Args:
        detections: boxes found in each image, in pixels of the image file.
        truths: boxes that each image holds; one or more in all.
        max_det: most boxes of one class that count in an image. COCO's own 100 is too few for crowded scenes.
    """
    present = sorted({int(label) for truth in truths for label in truth.labels})
    found = _found(detections, present)
    if not found:
        return Scores(map50=0.0, map50_95=0.0, precision=0.0, recall=0.0, per_class=dict.fromkeys(present, 0.0))
    evaluation = _evaluate(_truth_index(truths, present), found, max_det)
    precision = evaluation["precision"][:, :, :, 0, -1]  # (IoUs, recalls, classes)
    at_coco = precision[:, ::STEPS_BETWEEN]
    per_class = {label: float(at_coco[:, :, k].mean()) for k, label in enumerate(present)}
    best_precision, best_recall = best_f1(precision[0].T, evaluation["scores"][0, :, :, 0, -1].T, fine_recalls())
    return Scores(
        map50=float(at_coco[0].mean()),
        map50_95=float(at_coco.mean()),
        precision=best_precision,
        recall=best_recall,
        per_class=per_class,
    )


def fine_recalls() -> npt.NDArray[np.float64]:
    """Return recalls of which every tenth is exactly one of COCO's; shape (1001,)."""
    fine = np.linspace(0, 1, (len(COCO_RECALLS) - 1) * STEPS_BETWEEN + 1)
    fine[::STEPS_BETWEEN] = COCO_RECALLS
    return fine


def best_f1(precision: Curves, confidence: Curves, recalls: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean precision and recall over classes at the one confidence whose mean F1 is best.

    Args:
        precision: at each recall, 0 where it was never reached; shape (classes, recalls).
        confidence: lowest score counted when that recall was reached; falls along a row; shape (classes, recalls).
        recalls: rising; shape (recalls,).
    """
    candidates = np.unique(confidence[precision > 0])
    if not len(candidates):
        return 0.0, 0.0
    reached = np.stack([np.searchsorted(-row, -candidates, side="right") for row in confidence], axis=0) - 1
    reached = np.where(candidates[None, :] > confidence[:, :1], -1, reached)  # (classes, candidates)
    p = np.where(reached >= 0, np.take_along_axis(precision, np.maximum(reached, 0), axis=1), 0.0)
    r = np.where((reached >= 0) & (p > 0), recalls[np.maximum(reached, 0)], 0.0)
    f1 = 2 * p * r / np.maximum(p + r, 1e-12)
    best = int(f1.mean(axis=0).argmax())
    return float(p[:, best].mean()), float(r[:, best].mean())


def _evaluate(truth: COCO, found: list[dict[str, Any]], max_det: int) -> dict[str, Any]:
    judge = COCOeval_faster(truth, truth.loadRes(found), "bbox", print_function=log.debug)
    judge.params.maxDets = [max_det]
    judge.params.recThrs = fine_recalls()
    judge.params.areaRng, judge.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    judge.evaluate()
    judge.accumulate()
    result: dict[str, Any] = judge.eval
    return result


def _truth_index(truths: Sequence[Truths], present: Sequence[int]) -> COCO:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, truth in enumerate(truths, start=1):
        images.append({"id": number, "height": truth.size[0], "width": truth.size[1]})
        for (x0, y0, x1, y1), label in zip(truth.xyxy.tolist(), truth.labels.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "category_id": label}
            annotations.append(box | {"id": len(annotations) + 1, "image_id": number, "iscrowd": 0})
    categories = [{"id": label, "name": str(label)} for label in present]
    return COCO({"images": images, "annotations": annotations, "categories": categories}, print_function=log.debug)


def _found(detections: Sequence[Detections], present: Sequence[int]) -> list[dict[str, Any]]:
    """Detections as COCO results; those of classes that the split lacks count for nothing and are left out."""
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(detections, start=1):
        ltwh = np.concatenate([one.xyxy[:, :2], one.xyxy[:, 2:] - one.xyxy[:, :2]], axis=1).astype(np.float64)
        for box, score_, label in zip(ltwh.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True):
            if label in present:
                rows.append({"image_id": number, "category_id": label, "bbox": box, "score": score_})
    return rows

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
FEWER = (1, 10)  # detections of a class in an image at which recall is told besides the most that count
AREAS = {  # in square pixels of the image file; both ends belong to a range, as in COCO's own code
    "all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10),
}  # fmt: skip

Curves = npt.NDArray[np.float64]


def score(detections: Sequence[Detections], truths: Sequence[Truths], max_det: int) -> Scores:
    """Score a split with COCO's metric.

    Args:
        detections: boxes found in each image, in pixels of the image file.
        truths: boxes that each image holds; one or more in all.
        max_det: most boxes of one class that count in an image. COCO's own 100 is too few for crowded scenes.

    Returns:
        The scores. Their figures are `ap75`; `ap_small`, `ap_medium` and `ap_large` by the objects' area in the image
        file; and recall over IoU 0.50 to 0.95: `ar` with `max_det` boxes, `ar1` and `ar10` with fewer, `ar_small` and
        so on by area. Sizes that no object has are left out.
    """
    present = sorted({int(label) for truth in truths for label in truth.labels})
    found = _found(detections, present)
    if not found:
        return _nothing(truths, present, max_det)
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
        figures=_figures(evaluation["precision"][:, ::STEPS_BETWEEN], evaluation["recall"], max_det),
    )


def _nothing(truths: Sequence[Truths], present: Sequence[int], max_det: int) -> Scores:
    """Return the scores of a detector that found no box of any class of the split."""
    sides = np.concatenate([truth.xyxy[:, 2:] - truth.xyxy[:, :2] for truth in truths])
    areas = sides.prod(axis=1)
    sizes = [name for name, (low, high) in AREAS.items() if name != "all" and ((areas >= low) & (areas <= high)).any()]
    names = ["ap75", "ar", *(f"ar{few}" for few in FEWER if few < max_det)]
    names += [f"{kind}_{size}" for size in sizes for kind in ("ap", "ar")]
    zeros = dict.fromkeys(names, 0.0)
    return Scores(
        map50=0.0, map50_95=0.0, precision=0.0, recall=0.0, per_class=dict.fromkeys(present, 0.0), figures=zeros
    )


def _figures(precision: Curves, recall: Curves, max_det: int) -> dict[str, float]:
    """Return the figures beside mAP, from COCO's arrays; -1 in them stands for a class without such objects.

    Args:
        precision: (IoUs, recalls, classes, areas, numbers of detections).
        recall: (IoUs, classes, areas, numbers of detections).
        max_det: the last of the numbers of detections.
    """
    found = {"ap75": precision[5, :, :, 0, -1], "ar": recall[:, :, 0, -1]}
    found |= {f"ar{few}": recall[:, :, 0, i] for i, few in enumerate(_most(max_det)[:-1])}
    for i, size in enumerate(AREAS):
        if size != "all":
            found |= {f"ap_{size}": precision[:, :, :, i, -1], f"ar_{size}": recall[:, :, i, -1]}
    return {name: float(values[values > -1].mean()) for name, values in found.items() if (values > -1).any()}


def _most(max_det: int) -> list[int]:
    """Return the numbers of detections at which recall is told, rising to `max_det`."""
    return [*(few for few in FEWER if few < max_det), max_det]


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
    judge.params.maxDets = _most(max_det)
    judge.params.recThrs = fine_recalls()
    judge.params.areaRng, judge.params.areaRngLbl = [list(ends) for ends in AREAS.values()], list(AREAS)
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

"""Score boxes by VisDrone-DET's official protocol, with the quirks that make its figure what it is.

- Objects and detections of which half or more lies in the union of the ignored regions are dropped first.
- An image counts its first 1, 10, 100 or 500 detections over all classes, in the order given and not by score.
- AP is the area under the precision envelope (VOC, all points), and not COCO's 101 points.
- The mean over classes weighs a class as many times as images show it. The macro mean, each class once, stands beside.
- Objects with score 0 take detections away from nobody, and still count in the recall's denominator.
- "others" (category 11) are no class and ignore nothing.

Source: VisDrone/VisDrone2018-DET-toolkit, commit 0054457 (evalDET.m, utils/dropObjectsInIgr.m, calcAccuracy.m).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.boxes import Scores, Truths
from slimdeploy.accuracy.coco import best_f1, fine_recalls
from slimdeploy.accuracy.visdrone_match import IOUS, Found, Marked, match, outside
from slimdeploy.board.boxes import Detections
from slimdeploy.data import visdrone
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.labels import beside
from slimdeploy.data.visdrone import CATEGORY, CLASSES, HEIGHT, REGION, SCORE, Rows
from slimdeploy.errors import DataError

METRIC = "VisDrone's official protocol"
MOST = (1, 10, 100, 500)  # detections that count in an image

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the protocol finds, by class, each figure in 0..1.

    Attributes:
        ap: average precision with 500 detections an image; shape (10, IoUs).
        ar: highest recall with 1, 10, 100 and 500 detections an image; shape (10, IoUs, 4).
        images: images that show a class, which is what it weighs; shape (10,).
        precision: envelope at IoU 0.50, at each of `coco.fine_recalls`; shape (10, recalls).
        confidence: lowest score counted where that recall is reached; shape (10, recalls).
        marked: what became of the first 500 detections of each image.
        objects: objects of each class in each image, without those in ignored regions; shape (images, 10).
    """

    ap: Figures
    ar: Figures
    images: npt.NDArray[np.int64]
    precision: Figures
    confidence: Figures
    marked: Sequence[Marked]
    objects: npt.NDArray[np.int64]


class Official:
    """The official protocol as a scorer of one split.

    Args:
        category: VisDrone's number of each class of the detector.
        rows: annotations of each image; (n, 8).

    Attributes:
        judged: what was found last.
    """

    def __init__(self, category: npt.NDArray[np.int64], rows: Sequence[Rows]) -> None:
        self._category, self._rows = category, rows
        self.judged: Judged | None = None

    def __call__(self, detections: Sequence[Detections], truths: Sequence[Truths], _max_det: int) -> Scores:
        """Score the split; see `boxes.Scorer`."""
        found = [as_found(one, self._category) for one in detections]
        self.judged = judge(found, self._rows, [truth.size for truth in truths])
        return _scores(self.judged, {label: int(number) - 1 for label, number in enumerate(self._category)})


def scorer_for(dataset: Dataset, split: str) -> Official:
    """Return the official protocol as a scorer of one split; it reads annotations/ beside images/.

    Args:
        dataset: a data set that `slimdeploy visdrone` made, or one of the same layout.
        split: which split will be scored, its images in the data set's order.

    Raises:
        DataError: annotations are missing or damaged, the classes are not VisDrone's, or the images are tiles.
    """
    unknown = [name for name in dataset.classes if name not in CLASSES]
    if unknown:
        raise DataError(f"{dataset.path} has the classes {unknown}", wanted=f"some of VisDrone's: {', '.join(CLASSES)}")
    if dataset.tile:
        raise DataError(
            f"{dataset.path} holds tiles, on which the official figure is not defined",
            do="run 'slimdeploy visdrone' without --tile and score on that, or score with --protocol coco",
        )
    category = np.array([CLASSES.index(name) + 1 for name in dataset.classes], dtype=np.int64)
    rows = [visdrone.read_rows(beside(image, "annotations")) for image in dataset.images(split)]

    return Official(category, rows)


def as_found(detections: Detections, category: npt.NDArray[np.int64]) -> Found:
    """Return detections as the protocol reads them from a file.

    Args:
        detections: boxes of one image, best score first.
        category: VisDrone's number of each class of the detector.
    """
    corners = detections.xyxy.astype(np.float64)
    ltwh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return Found(ltwh=ltwh, scores=detections.scores.astype(np.float64), category=category[detections.labels])


def judge(found: Sequence[Found], rows: Sequence[Rows], sizes: Sequence[tuple[int, int]]) -> Judged:
    """Score a split.

    Args:
        found: detections of each image, in the order in which a result file lists them.
        rows: annotations of each image; (n, 8).
        sizes: height and width of each image, in pixels.

    Raises:
        DataError: no image shows an object outside of its ignored regions.
    """
    counts: list[npt.NDArray[np.int64]] = []
    hits = np.zeros((len(MOST), len(CLASSES), len(IOUS)), dtype=np.int64)
    marked: list[Marked] = []
    for detections, own, size in zip(found, rows, sizes, strict=True):
        truths, left = _without_ignored(own, detections, size)
        counts.append(np.bincount(truths[:, CATEGORY] - 1, minlength=len(CLASSES)))
        for i, one in enumerate(match(left, truths, MOST)):
            for k in range(len(IOUS)):
                hits[i, :, k] += np.bincount(one.category[one.marks[k] == 1] - 1, minlength=len(CLASSES))
        marked.append(one)
    held = np.array(counts, dtype=np.int64).reshape(-1, len(CLASSES))  # (images, 10)
    images, objects = (held > 0).sum(axis=0), held.sum(axis=0)
    if not images.any():
        raise DataError(
            "no image shows an object outside of its ignored regions", wanted="one or more to score against"
        )
    ar = hits / np.maximum(objects, 1)[None, :, None]
    ap, precision, confidence = _precisions(marked, objects)
    return Judged(
        ap=ap, ar=ar.transpose(1, 2, 0), images=images, precision=precision, confidence=confidence, marked=marked,
        objects=held,
    )  # fmt: skip


def _without_ignored(rows: Rows, found: Found, size: tuple[int, int]) -> tuple[Rows, Found]:
    """Return objects of the ten classes and detections, without those that lie in ignored regions."""
    regions = rows[rows[:, CATEGORY] == REGION, : HEIGHT + 1]
    objects = rows[(rows[:, CATEGORY] > REGION) & (rows[:, CATEGORY] <= len(CLASSES))]
    if len(regions):
        objects = objects[outside(objects[:, : HEIGHT + 1].astype(np.float64), regions, size)]
        found = found.only(outside(found.ltwh, regions, size))
    return objects[np.argsort(objects[:, SCORE] == 0, kind="stable")], found


def _precisions(marked: Sequence[Marked], objects: npt.NDArray[np.int64]) -> tuple[Figures, Figures, Figures]:
    """Return AP by class and IoU, and each class's curve at IoU 0.50; see Judged."""
    scores = np.concatenate([one.scores for one in marked])
    category = np.concatenate([one.category for one in marked])
    marks = np.concatenate([one.marks for one in marked], axis=1)  # (IoUs, detections)
    recalls = fine_recalls()
    ap = np.zeros((len(CLASSES), len(IOUS)))
    precision, confidence = np.zeros((2, len(CLASSES), len(recalls)))
    for k in range(len(CLASSES)):
        own = np.flatnonzero(category == k + 1)
        if not len(own):
            continue
        own = own[np.argsort(-scores[own], kind="stable")]
        recall, envelope = _curves(marks[:, own], int(objects[k]))
        ap[k] = (np.diff(recall, axis=1, prepend=0) * envelope).sum(axis=1)
        reached = np.searchsorted(recall[0], recalls)
        known = reached < len(own)
        precision[k, known], confidence[k, known] = envelope[0, reached[known]], scores[own][reached[known]]
    return ap, precision, confidence


def _curves(marks: npt.NDArray[np.int8], objects: int) -> tuple[Figures, Figures]:
    """Return recall and the precision envelope along detections sorted by score; both (IoUs, detections)."""
    right, wrong = (marks == 1).cumsum(axis=1), (marks == 0).cumsum(axis=1)
    precision = right / np.maximum(right + wrong, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return right / max(objects, 1), envelope


def figures(judged: Judged) -> dict[str, float]:
    """Return the official figures and the macro means, each in 0..1."""
    weights = judged.images / judged.images.sum()
    shown = judged.images > 0
    return {
        "ap": float(weights @ judged.ap.mean(axis=1)),
        "ap50": float(weights @ judged.ap[:, 0]),
        "ap75": float(weights @ judged.ap[:, 5]),
        **{f"ar{most}": float(weights @ judged.ar[:, :, i].mean(axis=1)) for i, most in enumerate(MOST)},
        "macro_ap": float(judged.ap[shown].mean()),
        "macro_ap50": float(judged.ap[shown, 0].mean()),
    }


def _scores(judged: Judged, number_of: Mapping[int, int]) -> Scores:
    shown = judged.images > 0
    official = figures(judged)
    precision, recall = best_f1(judged.precision[shown], judged.confidence[shown], fine_recalls())
    return Scores(
        map50=official["ap50"],
        map50_95=official["ap"],
        precision=precision,
        recall=recall,
        per_class={label: float(judged.ap[k].mean()) for label, k in number_of.items() if shown[k]},
        metric=METRIC,
        figures=official,
    )

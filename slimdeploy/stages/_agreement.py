"""Judge a cut network by what it finds: its detections beside those of the whole network, on training images.

The images are others than those that the weights were fitted on, as far as the training split has others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import Dataset
from slimdeploy.errors import GateError
from slimdeploy.records import Checkpoint, DetectionAgreement
from slimdeploy.stages._trials import spread

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.accuracy.boxes import Truths
    from slimdeploy.board.boxes import Detections

MACS = 1.5e12  # of both networks over all images, about half a minute on two cores; larger networks get fewer images
MOST_IMAGES = 48
LEAST_IMAGES = 8
BATCH = 4
FEW_BOXES = 10  # boxes of the whole network below which an agreement is chance
NAMED = 3  # classes that a refusal names

log = logging.getLogger("slimdeploy.prune")


def agreement_with(
    module: nn.Module, cut: nn.Module, known: Checkpoint, config: PruneConfig, dataset: Dataset, paths: Sequence[Path]
) -> DetectionAgreement | None:
    """Return how far a cut network finds what the whole one finds; None where that finds too little.

    Args:
        module: the whole network.
        cut: the same after the cut, its weights fitted.
        known: the whole network's checkpoint.
        config: the input size.
        dataset: whose training images are looked at.
        paths: those images.
    """
    log.info("prune: comparing what both networks find on %d training images of %s", len(paths), dataset.name)
    found = _Found(known, config.imgsz)
    for inputs, placements, truths in _batches(paths, dataset, config.imgsz, known.task):
        found.add(module, cut, inputs, placements, truths)
    agreement = found.agreement()
    if agreement.dense < FEW_BOXES:
        log.warning(
            "prune: the whole network finds %d objects on %d training images, so nothing shows what the plan costs; "
            "are these images like those that it was trained on, and is --imgsz %d its input size?",
            agreement.dense, agreement.images, config.imgsz,
        )  # fmt: skip
        return None
    return agreement


def images_to_judge(dataset: Dataset, fitted: int, macs: int) -> list[Path]:
    """Return training images, evenly spread, that are not among the `fitted` ones where there are enough others."""
    count = max(LEAST_IMAGES, min(MOST_IMAGES, int(MACS / macs)))
    used = set(spread(dataset, fitted))
    others = [path for path in dataset.images("train") if path not in used]
    paths = others if len(others) >= LEAST_IMAGES else list(dataset.images("train"))
    steps = min(len(paths), count)
    return [paths[i * len(paths) // steps] for i in range(steps)]


def require_agreement(agreement: DetectionAgreement | None, config: PruneConfig, worst: Callable[[], str]) -> None:
    """Refuse a cut network that finds little of what the whole one finds, and warn of one that finds less.

    Args:
        agreement: of both networks; None judges nothing.
        config: the least agreement.
        worst: names the groups whose narrowing costs most.

    Raises:
        GateError: the agreement is below the least one.
    """
    if agreement is None:
        return
    if agreement.share < config.least_agreement:
        raise GateError(
            f"the cut network finds {agreement.share:.0%} of what the whole one finds ({counts_text(agreement)})"
            f"{_worst_classes(agreement)}; alone, these groups take most: {worst()}",
            wanted=f"{config.least_agreement:.0%} or more",
            do="ask for less, take it in passes with fine-tuning between them (passes = 2 in a recipe), start from a "
            "smaller scale, or cut it all the same with --least-agreement 0",
        )
    if agreement.share < config.good_agreement:
        log.warning(
            "prune: the cut network finds %.0f%% of what the whole one finds (%s); fine-tune it before it is used",
            100 * agreement.share, counts_text(agreement),
        )  # fmt: skip


def counts_text(agreement: DetectionAgreement) -> str:
    """Return the counts behind an agreement, for a person."""
    new = agreement.changed - agreement.matched
    return (
        f"of {agreement.dense} boxes {agreement.matched} are found again and {new} are new, "
        f"over {agreement.images} training images"
    )


def _worst_classes(agreement: DetectionAgreement) -> str:
    lost = sorted(agreement.by_class, key=lambda row: (row.matched - row.dense, row.name))[:NAMED]
    if len(agreement.by_class) < 2:
        return ""
    return "; of " + ", ".join(f"{row.name} {row.matched} of {row.dense}" for row in lost)


def _batches(
    paths: Sequence[Path], dataset: Dataset, imgsz: int, task: str
) -> Iterator[tuple[Any, list[Any], list[Truths]]]:
    """Give inputs (B, 3, H, W), where the images lie in them, and the true boxes where those are known."""
    import numpy as np

    from slimdeploy.accuracy.evaluate import read_sample

    for start in range(0, len(paths), BATCH):
        part = paths[start : start + BATCH]
        inputs = np.zeros((len(part), 3, imgsz, imgsz), dtype=np.float32)
        samples = [
            read_sample(path, dataset, into, labels=task == "detect") for path, into in zip(part, inputs, strict=True)
        ]
        yield inputs, [placement for placement, _ in samples], [truths for _, truths in samples]


class _Found:
    """What both networks find, image by image, in pixels of the image files."""

    def __init__(self, known: Checkpoint, imgsz: int) -> None:
        from slimdeploy.accuracy.detector import Thresholds
        from slimdeploy.configs import ValConfig

        self._known, self._working, self._scoring = known, Thresholds(), ValConfig()
        self._truths: list[Truths] = []
        self._working_boxes: tuple[list[Detections], list[Detections]] = ([], [])
        self._scored_boxes: tuple[list[Detections], list[Detections]] = ([], [])

    def add(
        self, module: nn.Module, cut: nn.Module, inputs: Any, placements: Sequence[Any], truths: Sequence[Truths]
    ) -> None:
        """Run a batch through both networks."""
        from slimdeploy.yolo.heads import raw_rows

        self._truths += truths
        for side, network in enumerate((module, cut)):
            for row, placement in zip(raw_rows(network, inputs), placements, strict=True):
                self._working_boxes[side].append(self._boxes(row, placement, working=True))
                if self._known.task == "detect":
                    self._scored_boxes[side].append(self._boxes(row, placement, working=False))

    def _boxes(self, row: Any, placement: Any, *, working: bool) -> Detections:
        from slimdeploy.board.boxes import Detections
        from slimdeploy.board.decode import decode

        if self._known.task == "classify":
            return _answer(row)
        limits = self._working if working else self._scoring
        boxes = decode(
            row[: 4 + len(self._known.classes)], conf=limits.conf, iou=limits.iou, max_det=limits.max_det,
            multi_label=not working,
        )  # fmt: skip
        return Detections(xyxy=placement.to_original(boxes.xyxy), scores=boxes.scores, labels=boxes.labels)

    def agreement(self) -> DetectionAgreement:
        """Return the comparison of all images."""
        from slimdeploy.accuracy.agreement import agreement_of

        return agreement_of(*self._working_boxes, self._known.classes, map50_95=self._map50_95())

    def _map50_95(self) -> tuple[float, float] | None:
        from slimdeploy.accuracy import coco

        if not any(len(truth.labels) for truth in self._truths):
            return None
        dense, cut = (coco.score(boxes, self._truths, self._scoring.max_det) for boxes in self._scored_boxes)
        return dense.map50_95, cut.map50_95


def _answer(probabilities: Any) -> Detections:
    """Return a classifier's best class as a box, so that two answers match where they are the same."""
    import numpy as np

    from slimdeploy.board.boxes import Detections

    best = int(probabilities.argmax())
    return Detections(
        xyxy=np.array([[0, 0, 1, 1]], dtype=np.float32),
        scores=probabilities[[best]],
        labels=np.array([best], dtype=np.int64),
    )

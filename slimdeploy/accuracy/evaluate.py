"""Run a detector over a data set's split and score its boxes: one loop for every runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from slimdeploy._cores import usable_cores
from slimdeploy._progress import Progress
from slimdeploy.accuracy import coco
from slimdeploy.accuracy.boxes import Scorer, Scores, Truths
from slimdeploy.accuracy.lanes import Lease, in_order, open_lanes
from slimdeploy.backends.artifacts import require_finite_weights
from slimdeploy.backends.outputs import require_finite, require_layout
from slimdeploy.backends.protocol import INPUT, OUTPUT, Session
from slimdeploy.backends.registry import backend_for
from slimdeploy.board.boxes import Detections, Floats
from slimdeploy.board.decode import decode
from slimdeploy.board.letterbox import Placement, letterbox
from slimdeploy.configs import ValConfig
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.images import read_image
from slimdeploy.errors import DataError, UsageError
from slimdeploy.records import Accuracy, Artifact, ModelSpec

log = logging.getLogger("slimdeploy.accuracy")


def score(
    artifact: Artifact,
    dataset: Dataset,
    config: ValConfig,
    *,
    backend: str = "",
    trust: bool = False,
    scorer: Scorer = coco.score,
) -> Accuracy:
    """Open a model file and score it; see `evaluate`.

    Args:
        artifact: the model file.
        dataset: what to score on.
        config: split, thresholds and limits.
        backend: the runtime's name; empty takes the format's own.
        trust: open a .pt even if it holds unknown objects.
        scorer: what judges the boxes.

    Raises:
        UsageError: the model is no detector; and see `evaluate`.
    """
    require_detector(artifact)
    dataset.require_classes(artifact.spec.classes)
    require_finite_weights(artifact)
    with open_lanes(backend_for(artifact, backend, trust=trust), artifact) as sessions:
        return evaluate(sessions, artifact.spec, dataset, config, name=Path(artifact.path).name, scorer=scorer)


def require_detector(artifact: Artifact) -> None:
    """Raise UsageError unless a model's accuracy can be scored here, which is done on upright boxes alone."""
    if artifact.spec.task != "detect":
        raise UsageError(
            f"the accuracy of {Path(artifact.path).name}, a network for the task {artifact.spec.task!r}",
            wanted="a detector",
            do="leave --data out of bench to measure latency alone, and score accuracy with ultralytics' own val",
        )


def require_scorable(dataset: Dataset, split: str) -> None:
    """Look at a split before minutes of measuring: every image must decode, and some must have labels.

    Raises:
        DataError: an image or a row of labels is damaged, or there are no labels.
    """
    paths = dataset.images(split)
    if not any([dataset.labels(path).boxes for path in paths]):
        raise _without_labels(dataset, split)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(lambda path: read_image(path).shape, paths):
            pass


def _without_labels(dataset: Dataset, split: str) -> DataError:
    return DataError(f"the {split} split of {dataset.path} has no labels", wanted="one or more boxes to score against")


def evaluate(
    sessions: Sequence[Session],
    spec: ModelSpec,
    dataset: Dataset,
    config: ValConfig,
    *,
    name: str = "the model",
    scorer: Scorer = coco.score,
) -> Accuracy:
    """Score a detector on one split, with ultralytics' preprocessing, thresholds and NMS.

    Args:
        sessions: the open detector, once or more often; see `lanes`.
        spec: how to feed it.
        dataset: what to score on.
        config: split, thresholds and limits.
        name: what messages call the model.
        scorer: what judges the boxes.

    Raises:
        ArtifactError: the model's output has another shape than its classes ask for, or holds NaN or infinity.
        DataError: the classes differ, an image does not decode, or no image of the split has a label.
    """
    dataset.require_classes(spec.classes)
    paths = dataset.images(config.split)
    batches = [paths[start : start + spec.batch] for start in range(0, len(paths), spec.batch)]

    def look(batch: Sequence[Path], lend: Callable[[], Lease]) -> list[tuple[Detections, Truths]]:
        images = np.zeros((spec.batch, 3, *spec.imgsz), dtype=np.float32)  # a short last batch is filled with black
        samples = [read_sample(path, dataset, into) for path, into in zip(batch, images, strict=False)]
        with lend() as session:
            outputs = _infer(session, spec, images, name)
        seen = zip(outputs, samples, strict=False)
        return [(_boxes(output, placement, config), truth) for output, (placement, truth) in seen]

    detections: list[Detections] = []
    truths: list[Truths] = []
    shown = name.replace("{", "{{").replace("}", "}}")
    progress = Progress(log, f"{shown}: {{done}} of {{total}} images, {{rate:.1f}} a second", total=len(paths))
    for found in in_order(batches, sessions, look):
        for boxes, truth in found:
            detections.append(boxes)
            truths.append(truth)
        progress.at(len(truths))
    if not any(len(truth.labels) for truth in truths):
        raise _without_labels(dataset, config.split)
    return _accuracy(scorer(detections, truths, config.max_det), truths, dataset, config.split)


def _accuracy(scores: Scores, truths: Sequence[Truths], dataset: Dataset, split: str) -> Accuracy:
    return Accuracy(
        map50=scores.map50,
        map50_95=scores.map50_95,
        precision=scores.precision,
        recall=scores.recall,
        per_class={dataset.classes[label]: ap for label, ap in scores.per_class.items()},
        images=len(truths),
        boxes=sum(len(truth.labels) for truth in truths),
        data=f"{dataset.name} ({split})",
        rendered=dataset.rendered,
        metric=scores.metric,
        figures=dict(scores.figures),
    )


def read_sample(path: Path, dataset: Dataset, into: Floats, *, labels: bool = True) -> tuple[Placement, Truths]:
    """Read an image into a detector's input, and its labels.

    Args:
        path: the image.
        dataset: the data set that it belongs to.
        into: where the input is written; (3, H, W).
        labels: read the labels; else the image counts as one without objects.

    Returns:
        Where the image lies in the input, and its objects.

    Raises:
        DataError: the image or its labels are damaged.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    rows = dataset.labels(path).boxes if labels else ()
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 5)
    centre, half = boxes[:, 1:3], boxes[:, 3:5] / 2
    xyxy = np.concatenate([centre - half, centre + half], axis=1) * [width, height, width, height]
    truth = Truths(xyxy=xyxy, labels=boxes[:, 0].astype(np.int64), size=(height, width))
    _, placement = letterbox(image, (into.shape[1], into.shape[2]), round_up=True, out=into)
    return placement, truth


def _infer(session: Session, spec: ModelSpec, images: Floats, name: str) -> Floats:
    outputs = session.run({INPUT: images})
    require_layout(outputs, spec, spec.batch, name)
    require_finite(outputs, name)
    return np.asarray(outputs[OUTPUT], dtype=np.float32)


def _boxes(output: Floats, placement: Placement, config: ValConfig) -> Detections:
    found = decode(output, conf=config.conf, iou=config.iou, max_det=config.max_det)
    return Detections(xyxy=placement.to_original(found.xyxy), scores=found.scores, labels=found.labels)

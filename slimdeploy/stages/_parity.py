"""Compare an exported graph with the network it came from, anchor by anchor.

Both sides are compared before NMS, since NMS turns a difference in the last digit into another choice of box.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimdeploy.backends.protocol import OUTPUT, PROTOTYPES
from slimdeploy.board.letterbox import letterbox
from slimdeploy.configs import SMALLEST_SCENE_PX, ExportConfig, SceneConfig
from slimdeploy.data import scenes
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.images import read_image
from slimdeploy.errors import GateError
from slimdeploy.records import Checkpoint

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]  # of one image: the rows of every anchor, or a classifier's probabilities; prototypes

CONF = 0.05  # anchors that score less give no box that counts in practice
AT_LEAST = 20  # best anchors of an image that are compared in any case, so that no check is empty
LONG_PX = 100.0  # of boxes beyond it, a move is weighed by their longer side: a pixel of a large box is next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an exported graph lies from its network.

    Attributes:
        images: images compared.
        boxes: anchors whose boxes were compared: those above `CONF` on either side, and the best `AT_LEAST`; none for
            a classifier.
        box_shift_px: largest move of a box corner among them, in pixels; oriented boxes turn with their angle.
        weighed_shift_px: largest move of a corner or keypoint as the tolerance weighs it: in pixels of boxes up to
            `LONG_PX` long, of longer ones in hundredths of their longer side.
        score_change: largest change of a score, over every anchor and class, and of a keypoint's visibility.
        raw_difference: largest difference of the outputs, over everything.
        keypoint_shift_px: largest move of a keypoint of those anchors, in pixels; None where there are none.
        mask_change: largest change of a mask's value, in 0..1, of the best `AT_LEAST` anchors; None where there are
            none.
    """

    images: int
    boxes: int
    box_shift_px: float
    weighed_shift_px: float
    score_change: float
    raw_difference: float
    keypoint_shift_px: float | None = None
    mask_change: float | None = None

    def require_finite(self, precision: str) -> None:
        """Raise GateError if the network, or its graph of some precision, gave anything but numbers."""
        changes = max(self.score_change, self.mask_change or 0.0)
        if not math.isfinite(max(self.weighed_shift_px, changes, self.raw_difference)):
            raise GateError(
                f"the network or its exported {precision} graph gives NaN or infinity for ordinary images",
                wanted="finite boxes and scores",
                do="train it again" if precision == "fp32" else "export at fp32, or train it again",
            )

    def require(self, config: ExportConfig, precision: str) -> None:
        """Raise GateError if the graph, of some precision, differs by more than a config allows."""
        changes = max(self.score_change, self.mask_change or 0.0)
        if not (self.weighed_shift_px <= config.box_tolerance_px and changes <= config.score_tolerance):
            raise GateError(
                f"the exported {precision} graph moves boxes by up to {self.weighed_shift_px:.3g} px, or hundredths of "
                f"a long box, and changes scores by up to {changes:.3g}, over {self.images} images",
                wanted=f"at most {config.box_tolerance_px:g} px, or as many hundredths of a long box, and "
                f"{config.score_tolerance:g}",
                do=f"{'' if precision == 'fp32' else 'export at fp32, or '}allow more in a recipe: "
                "export.box_tolerance_px, export.score_tolerance",
            )


def compare(pairs: Iterable[tuple[Outputs, Outputs]], known: Checkpoint) -> Agreement:
    """Return how far outputs lie apart.

    Args:
        pairs: for each image, the network's outputs and the graph's, by name; the rows are (rows, anchors).
        known: the network's checkpoint, which tells what the rows are.
    """
    one = _compare_classes if known.task == "classify" else _compare_anchors
    found = [one(expected, actual, known) for expected, actual in pairs]
    worst = {name: _worst([getattr(each, name) for each in found]) for name in _DIFFERENCES}
    return Agreement(images=len(found), boxes=sum(each.boxes for each in found), **worst)


_DIFFERENCES = (
    "box_shift_px",
    "weighed_shift_px",
    "score_change",
    "raw_difference",
    "keypoint_shift_px",
    "mask_change",
)


def _worst(values: Sequence[float | None]) -> Any:
    return max((value for value in values if value is not None), default=None)


def per_image(expected: Outputs, actual: Outputs) -> list[tuple[Outputs, Outputs]]:
    """Return the pairs of outputs of a batch's images, as `compare` takes them."""

    def of(side: Outputs, image: int) -> Outputs:
        return {name: side[name][image] for name in expected}

    return [(of(expected, i), of(actual, i)) for i in range(len(next(iter(expected.values()))))]


def _compare_classes(expected: Outputs, actual: Outputs, known: Checkpoint) -> Agreement:
    change = _largest(expected[OUTPUT], actual[OUTPUT])
    return Agreement(
        images=1, boxes=0, box_shift_px=0.0, weighed_shift_px=0.0, score_change=change, raw_difference=change
    )


def _compare_anchors(expected: Outputs, actual: Outputs, known: Checkpoint) -> Agreement:
    wanted, found, last = expected[OUTPUT], actual[OUTPUT], 4 + len(known.classes)
    chosen = _anchors(wanted[4:last], found[4:last])
    corners = _turned_corners if known.task == "obb" else _corners
    moves = _moves(corners(wanted[:, chosen]), corners(found[:, chosen]))
    change, points = _largest(wanted[4:last], found[4:last]), None
    if known.kpt_shape:
        points, seen = _keypoint_moves(wanted[last:, chosen], found[last:, chosen], known.kpt_shape)
        change = max(change, seen)
    farthest = moves if points is None else np.maximum(moves, points)
    long = np.maximum(wanted[2:4, chosen].max(axis=0) / LONG_PX, 1)
    return Agreement(
        images=1,
        boxes=len(chosen),
        box_shift_px=float(moves.max(initial=0.0)),
        weighed_shift_px=float((farthest / long).max(initial=0.0)),
        score_change=change,
        raw_difference=max(_largest(expected[name], actual[name]) for name in expected),
        keypoint_shift_px=None if points is None else float(points.max(initial=0.0)),
        mask_change=_mask_change(expected, actual, last, chosen[:AT_LEAST]) if PROTOTYPES in expected else None,
    )


def _anchors(expected: Array, actual: Array) -> NDArray[np.intp]:
    """Positions of the anchors whose boxes are worth comparing, the best first; scores are (classes, anchors)."""
    best = np.maximum(expected.max(axis=0), actual.max(axis=0))  # (anchors,)
    ranked = np.argsort(-best, kind="stable")
    return ranked[: max(AT_LEAST, int((best >= CONF).sum()))]


def _corners(rows: Array) -> Array:
    """Return the corners of boxes; rows are (4 or more, n), the first being cx, cy, w, h."""
    half = rows[2:4] / 2
    return np.concatenate([rows[:2] - half, rows[:2] + half])  # (4, n)


def _turned_corners(rows: Array) -> Array:
    """Return the corners of oriented boxes, whose last row is the angle in radians; (8, n)."""
    cosine, sine = np.cos(rows[-1]), np.sin(rows[-1])
    along = np.stack([cosine, sine]) * rows[2] / 2  # (2, n)
    across = np.stack([-sine, cosine]) * rows[3] / 2
    return np.concatenate([rows[:2] + i * along + j * across for i in (-1, 1) for j in (-1, 1)])


def _keypoint_moves(expected: Array, actual: Array, kpt_shape: tuple[int, int]) -> tuple[Array, float]:
    """Return each anchor's largest move of a keypoint, in pixels, (n,), and the largest change of a visibility.

    Args:
        expected: what follows the scores; (k * d, n).
        actual: the same of the graph.
        kpt_shape: k keypoints of d values.
    """
    wanted, found = (rows.reshape(*kpt_shape, -1) for rows in (expected, actual))  # (k, d, n)
    moves = _moves(*(side[:, :2].reshape(-1, side.shape[2]) for side in (wanted, found)))
    return moves, _largest(wanted[:, 2:], found[:, 2:])


def _moves(expected: Array, actual: Array) -> Array:
    """Return the largest difference of each column, (n,); one that is no number counts as infinite."""
    apart = np.nan_to_num(np.abs(expected - actual), nan=np.inf, posinf=np.inf)
    return np.asarray(apart.max(axis=0, initial=0.0))


def _mask_change(expected: Outputs, actual: Outputs, first: int, chosen: NDArray[np.intp]) -> float:
    """Return the largest change of a mask's value; the coefficients begin at row `first`."""
    wanted, found = (
        np.tensordot(side[OUTPUT][first:, chosen].T, side[PROTOTYPES], axes=1) for side in (expected, actual)
    )  # (n, height, width), before the sigmoid
    return _largest(_sigmoid(wanted), _sigmoid(found))


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -50, 50))), dtype=np.float32)


def _largest(expected: Array, actual: Array) -> float:
    """Largest difference; one that is no number counts as infinite."""
    return float(np.nan_to_num(np.abs(expected - actual), nan=np.inf, posinf=np.inf).max(initial=0.0))


def check_inputs(dataset: Dataset | None, config: ExportConfig) -> tuple[list[Array], str]:
    """Return the inputs on which an export is checked, and where they come from.

    Args:
        dataset: real images, from its val split and then its train split; without it scenes are rendered.
        config: how many, and their size.

    Returns:
        Inputs, each (3, H, W), and a phrase for people.

    Raises:
        DataError: an image does not decode.
    """
    if dataset is None:
        size = SceneConfig(size_px=max(*config.imgsz, SMALLEST_SCENE_PX))
        pictures = [scenes.render(size, "val", number)[0] for number in range(config.check_images)]
        source = f"{scenes.NAME}, seed {size.seed}"
    else:
        paths = _spread(dataset, config.check_images)
        pictures = [read_image(path) for path in paths]
        source = f"images of {dataset.name}, {' and '.join(_splits(dataset, paths))}"
    return [letterbox(picture, config.imgsz)[0] for picture in pictures], source


def _spread(dataset: Dataset, count: int) -> list[Path]:
    """Images spread evenly over the val split, and over the train split for what it lacks."""
    chosen: list[Path] = []
    for split in ("val", "train"):
        paths, wanted = dataset.splits.get(split, ()), count - len(chosen)
        steps = min(len(paths), wanted)
        chosen += [paths[i * len(paths) // steps] for i in range(steps)]
    return chosen


def _splits(dataset: Dataset, chosen: list[Path]) -> list[str]:
    return [split for split in ("val", "train") if set(chosen) & set(dataset.splits.get(split, ()))]


def batches(inputs: Sequence[Array], batch: int) -> list[Array]:
    """Stack inputs (3, H, W) into whole batches (B, 3, H, W); the last one is filled up from the start."""
    fill = -len(inputs) % batch
    images = [*inputs, *(inputs[i % len(inputs)] for i in range(fill))]
    return [np.stack(images[i : i + batch]) for i in range(0, len(images), batch)]


def read_batches(paths: Sequence[Path], config: ExportConfig) -> Iterator[Array]:
    """Read images one batch at a time, as inputs (B, 3, H, W); the last batch is filled up from its start."""
    for start in range(0, len(paths), config.batch):
        inputs = [letterbox(read_image(path), config.imgsz)[0] for path in paths[start : start + config.batch]]
        yield from batches(inputs, config.batch)

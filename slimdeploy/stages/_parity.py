"""Compare an exported graph with the network it came from, anchor by anchor.

Both sides are compared before NMS, since NMS turns a difference in the last digit into another choice of box.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimdeploy.board.letterbox import letterbox
from slimdeploy.configs import ExportConfig, SceneConfig
from slimdeploy.data import scenes
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.images import read_image
from slimdeploy.errors import GateError

Array = NDArray[np.float32]

CONF = 0.05  # anchors that score less give no box that counts in practice
AT_LEAST = 20  # best anchors of an image that are compared in any case, so that no check is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far an exported graph lies from its network.

    Attributes:
        images: images compared.
        boxes: anchors whose boxes were compared: those above `CONF` on either side, and the best `AT_LEAST`.
        box_shift_px: largest move of a box corner among them, in pixels.
        score_change: largest change of a score, over every anchor and class.
        raw_difference: largest difference of the outputs, over everything.
    """

    images: int
    boxes: int
    box_shift_px: float
    score_change: float
    raw_difference: float

    def require(self, config: ExportConfig, precision: str) -> None:
        """Raise GateError if the graph, of some precision, differs by more than a config allows."""
        if not (self.box_shift_px <= config.box_tolerance_px and self.score_change <= config.score_tolerance):
            raise GateError(
                f"the exported {precision} graph moves boxes by up to {self.box_shift_px:.3g} px and changes "
                f"scores by up to {self.score_change:.3g}, over {self.images} images",
                wanted=f"at most {config.box_tolerance_px:g} px and {config.score_tolerance:g}",
                do="export at fp32, or allow more in a recipe: export.box_tolerance_px, export.score_tolerance",
            )


def compare(pairs: Iterable[tuple[Array, Array]]) -> Agreement:
    """Return how far outputs lie apart.

    Args:
        pairs: for each image, the network's output and the graph's; each (4 + classes, anchors).
    """
    images, boxes, shift, change, raw = 0, 0, 0.0, 0.0, 0.0
    for expected, actual in pairs:
        chosen = _anchors(expected, actual)
        images, boxes = images + 1, boxes + len(chosen)
        shift = max(shift, _largest(_corners(expected[:4, chosen]), _corners(actual[:4, chosen])))
        change = max(change, _largest(expected[4:], actual[4:]))
        raw = max(raw, _largest(expected, actual))
    return Agreement(images=images, boxes=boxes, box_shift_px=shift, score_change=change, raw_difference=raw)


def _anchors(expected: Array, actual: Array) -> NDArray[np.intp]:
    """Positions of the anchors whose boxes are worth comparing."""
    best = np.maximum(expected[4:].max(axis=0), actual[4:].max(axis=0))  # (anchors,)
    ranked = np.argsort(-best, kind="stable")
    return ranked[: max(AT_LEAST, int((best >= CONF).sum()))]


def _corners(cxcywh: Array) -> Array:
    half = cxcywh[2:] / 2
    return np.concatenate([cxcywh[:2] - half, cxcywh[:2] + half])  # (4, n)


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
        size = SceneConfig(size_px=max(config.imgsz))
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

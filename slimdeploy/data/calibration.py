"""Choose the images that int8 ranges are measured on: training images alone, seeded, every class in its turn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.data.dataset import Dataset
from slimdeploy.errors import DataError
from slimdeploy.lineage import sha256_file

SPLIT = "train"
NOTHING = "no object"  # the stratum of images without a label


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """Images whose activations set the scales of an int8 graph.

    Attributes:
        data: name of the data set.
        images: in the order in which they were chosen.
        seed: of the choice.
        shown: how many of them show each class, by class name; `NOTHING` for those without a label.
    """

    data: str
    images: tuple[Path, ...]
    seed: int
    shown: Mapping[str, int]

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every image by its file name, in the order of choice."""
        return {f"{number:04d}-{path.name}": sha256_file(path) for number, path in enumerate(self.images)}


def as_record(chosen: CalibrationSet, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what a manifest says of a calibration set; the hash covers every image and their order."""
    together = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
    return {
        "data": chosen.data,
        "split": SPLIT,
        "images": len(chosen.images),
        "seed": chosen.seed,
        "classes": dict(chosen.shown),
        "sha256": together,
    }


def choose(dataset: Dataset, count: int, *, seed: int) -> CalibrationSet:
    """Choose images of the training split, stratified by class.

    The classes take turns, the rarest first, and each adds a random image that shows it, so that a rare class is
    there as often as a common one for as long as it has images. Images that the val or test split holds too are
    passed over: ranges measured on them would flatter the score.

    Args:
        dataset: what to choose from.
        count: images wanted; all of them where the split has fewer.
        seed: of the choice; the same data set and seed give the same images.

    Raises:
        DataError: the data set has no training split, or one without an image of its own.
    """
    held_out = {path.resolve() for split in dataset.splits if split != SPLIT for path in dataset.splits[split]}
    own = [path for path in dataset.images(SPLIT) if path.resolve() not in held_out]
    if not own:
        raise DataError(
            f"every training image of {dataset.path} is in another split too",
            wanted="training images to calibrate int8 on, which nothing is scored on",
            do="give train and val images of their own",
        )
    shows = {path: _classes_of(path, dataset) for path in own}
    chosen = _in_turns(own, shows, count, seed)
    told = [name for path in chosen for name in shows[path]]
    names = [name for name in (*dataset.classes, NOTHING) if name in told]
    return CalibrationSet(
        data=dataset.name, images=tuple(chosen), seed=seed, shown={name: told.count(name) for name in names}
    )


def _classes_of(path: Path, dataset: Dataset) -> tuple[str, ...]:
    labels = {box[0] for box in dataset.labels(path).boxes}
    return tuple(dataset.classes[label] for label in sorted(labels)) or (NOTHING,)


def _in_turns(own: Sequence[Path], shows: Mapping[Path, tuple[str, ...]], count: int, seed: int) -> list[Path]:
    shuffled = sorted(own)
    random.Random(seed).shuffle(shuffled)
    strata: dict[str, list[Path]] = {}
    for path in shuffled:
        for name in shows[path]:
            strata.setdefault(name, []).append(path)
    queues = [iter(strata[name]) for name in sorted(strata, key=lambda name: (len(strata[name]), name))]
    chosen: dict[Path, None] = {}
    while len(chosen) < min(count, len(shuffled)):
        for queue in queues:
            fresh = next((path for path in queue if path not in chosen), None)
            if fresh is not None and len(chosen) < count:
                chosen[fresh] = None
    return list(chosen)

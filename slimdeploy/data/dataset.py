"""One reading of a data set for every stage: its YAML, its images and its labels, resolved once and checked.

docs/data.md says how it is read, and where that differs from ultralytics on purpose.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy.board.text import brief, printable
from slimdeploy.data.dataset_yaml import Settings, read_settings
from slimdeploy.data.image_files import ImageFile, look_at, problem_of
from slimdeploy.data.labels import LabelFormat, Labels, Report, label_path, read_labels, refuse
from slimdeploy.data.splits import list_split
from slimdeploy.errors import DataError
from slimdeploy.lineage import Input

NAMED = 3  # files of a kind that are named where many are counted

log = logging.getLogger("slimdeploy.data")
_said: set[str] = set()  # a stage reads its data set more than once and says only once what it leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that no stage uses, though it is whole.

    Attributes:
        split: the split that names it.
        path: the file.
        why: the reason.
    """

    split: str
    path: Path
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A YOLO data set, resolved: what every stage reads.

    Attributes:
        path: the YAML file.
        name: as shown: the YAML's `slimdeploy_name`, or the name of the folder it lies in.
        classes: class names, in label order.
        splits: image files of each split that is there, sorted; absolute.
        rendered: whether the images are rendered scenes, as the YAML's `slimdeploy_rendered` says.
        tile: side of the tiles that bigger images were cut into, in pixels, as the YAML's `slimdeploy_tile` says; 0
            where they are whole.
        keypoint_columns: further columns of a label row that hold keypoints, from the YAML's `kpt_shape`.
        left_out: images that no stage uses.
        absent: splits that the YAML names and that are not there, with the error that asking for one raises.
    """

    path: Path
    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    rendered: bool = False
    tile: int = 0
    keypoint_columns: int = 0
    left_out: tuple[LeftOut, ...] = ()
    absent: Mapping[str, DataError] = field(default_factory=dict)

    def images(self, split: str) -> tuple[Path, ...]:
        """Return the images of one split.

        Raises:
            DataError: the data set has no such split, or it is not there.
        """
        if split in self.absent:
            raise self.absent[split]
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r}", wanted=f"one of {', '.join(sorted(self.splits))}")
        return self.splits[split]

    def names_split(self, split: str) -> bool:
        """Return whether the YAML names a split, be it there or not."""
        return split in self.splits or split in self.absent

    def labels(self, image: Path) -> Labels:
        """Return the labels of one of its images.

        Raises:
            DataError: a row is damaged, or names a class that the data set lacks.
        """
        form = LabelFormat(classes=len(self.classes), keypoint_columns=self.keypoint_columns)
        return read_labels(label_path(image), form)

    def as_input(self) -> Input:
        """Return the data set as a stage's input: its hash covers names, splits, image sizes and labels."""
        digest = hashlib.sha256(repr(self.classes).encode())
        if self.keypoint_columns:
            digest.update(f"keypoints {self.keypoint_columns}/".encode())
        for split in sorted(self.splits):
            for image in self.splits[split]:
                labels = label_path(image)
                text = labels.read_bytes() if labels.exists() else b""
                digest.update(os.fsencode(f"{split}/{image.name}/{image.stat().st_size}/") + text)
        return Input(self.name, digest.hexdigest(), left_out=counted(self.left_out))

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Raise DataError unless a network with these classes fits the data set."""
        if classes != self.classes:
            raise DataError(
                f"{self.path} has other classes than the network: {class_differences(self.classes, classes)}",
                wanted="the network's classes, in its order",
                do="name the data set that the network was trained on",
            )

    def require_trainable(self) -> None:
        """Raise DataError unless there are images to train on and to validate with, and boxes to learn."""
        self.images("val")
        if not any(self.labels(image).boxes for image in self.images("train")):
            raise DataError(
                f"the train split of {self.path} has no labels",
                wanted=f"one or more boxes, as in {label_path(self.images('train')[0])}",
            )


def read_dataset(path: Path, *, check_labels: bool = True) -> Dataset:
    """Read a data set's YAML, find its images and check them and their labels.

    Args:
        path: YAML with `names` or `nc`, `train`, `val` and perhaps `test` and `path`; splits may be folders or lists
            of files, relative to `path`, which is relative to the YAML.
        check_labels: also read every label file.

    Raises:
        DataError: something is missing or wrong; the message names the file and, for labels, the line.
    """
    dataset = resolve(read_settings(path), refuse)
    if check_labels:
        for images in dataset.splits.values():
            for image in images:
                dataset.labels(image)
    _say(dataset)
    return dataset


def resolve(settings: Settings, report: Report) -> Dataset:
    """Return the data set of a YAML, its images found and judged.

    Args:
        settings: the YAML.
        report: gets each damaged image and each wrong line of a list.

    Raises:
        DataError: no split of it is there.
    """
    splits: dict[str, tuple[Path, ...]] = {}
    left_out: list[LeftOut] = []
    absent: dict[str, DataError] = {}
    for split in settings.splits:
        listing = list_split(settings, split, report)
        left_out += [LeftOut(split=split, path=path, why=why) for path, why in listing.other]
        images = _usable(listing.images, split, report, left_out)
        if listing.absent:
            absent[split] = listing.absent[0]
        elif images:
            splits[split] = images
        else:
            absent[split] = _empty(settings, split, left_out)
    if not splits:
        raise next(iter(absent.values()))
    return Dataset(
        path=settings.path,
        name=settings.name,
        classes=settings.classes,
        splits=splits,
        rendered=settings.rendered,
        tile=settings.tile,
        keypoint_columns=settings.keypoint_columns,
        left_out=tuple(left_out),
        absent=absent,
    )


def class_differences(ours: Sequence[str], theirs: Sequence[str], *, shown: int = NAMED) -> str:
    """Return in a few words how class names differ from those that are wanted."""
    pairs = [(number, *pair) for number, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]]
    said = [f"class {number} is {brief(own)}, not {brief(other)}" for number, own, other in pairs[:shown]]
    said += [f"and {len(pairs) - shown} more differ"] if len(pairs) > shown else []
    if len(ours) != len(theirs):
        said.insert(0, f"{len(ours)} classes, not {len(theirs)}")
    return ", ".join(said)


def counted(left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """Return what is left out by its reason: how many files, and the first of them."""
    kinds: dict[str, list[str]] = {}
    for one in left_out:
        kinds.setdefault(one.why, []).append(f"{one.split}/{one.path.name}")
    return {why: {"count": len(names), "first": names[:NAMED]} for why, names in kinds.items()}


def _usable(paths: Iterable[Path], split: str, report: Report, left_out: list[LeftOut]) -> tuple[Path, ...]:
    """Return the images that every stage uses, sorted; the others are reported or added to what is left out."""
    images = sorted(paths)
    with warnings.catch_warnings(), ThreadPoolExecutor(usable_cores()) as pool:
        warnings.simplefilter("ignore")  # Pillow's, on damaged tags; what is damaged is reported below
        seen: list[ImageFile] = list(pool.map(look_at, images))
    for path, file in zip(images, seen, strict=True):
        if file.damage:
            report(problem_of(path, file.damage))
        elif file.left_out:
            left_out.append(LeftOut(split=split, path=path, why=file.left_out))
    return tuple(path for path, file in zip(images, seen, strict=True) if not file.damage and not file.left_out)


def _empty(settings: Settings, split: str, left_out: Sequence[LeftOut]) -> DataError:
    own = counted(one for one in left_out if one.split == split)
    why = f": all are left out ({summary(own)})" if own else ""
    return DataError(
        f"{settings.path}: the {split} split holds no images{why}", wanted="image files such as .jpg or .png"
    )


def summary(kinds: Mapping[str, Any]) -> str:
    """Return what is left out in one line, from what `counted` gives."""
    return ", ".join(
        f"{kind['count']} with {why}: {', '.join(kind['first'])}{', ...' if kind['count'] > NAMED else ''}"
        for why, kind in kinds.items()
    )


def _say(dataset: Dataset) -> None:
    lines = [f"{error.wrong}; only what asks for that split stops here" for error in dataset.absent.values()]
    if dataset.left_out:
        lines.append(
            f"{dataset.path}: {len(dataset.left_out)} images are left out everywhere: "
            f"{summary(counted(dataset.left_out))}"
        )
    for line in lines:
        if line not in _said:
            _said.add(line)
            log.warning("%s", printable(line))

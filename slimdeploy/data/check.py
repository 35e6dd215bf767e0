"""Look a data set over: everything in it is decoded and read, all that is broken is listed, and what is odd is told."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy.data.dataset import NAMED, Dataset, counted, resolve
from slimdeploy.data.dataset_yaml import read_settings
from slimdeploy.data.image_files import problem_of
from slimdeploy.data.labels import LabelFormat, Labels, label_path, read_labels
from slimdeploy.errors import DataError

PROBLEMS_SHOWN = 50
TINY_PX = 2  # sides of boxes of which a network sees nothing
SMALL_PX, LARGE_PX = 32, 96  # COCO's bounds, of the square root of a box's area


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What a split holds.

    Attributes:
        images: images that are used.
        boxes: boxes in them.
        without_file: images that have no label file, and so hold no objects.
        without_boxes: images whose label file is empty.
        left_out: images that are not used, by the reason.
    """

    images: int
    boxes: int
    without_file: int
    without_boxes: int
    left_out: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """What a data set holds of a class.

    Attributes:
        name: its name.
        boxes: boxes, by split.
        small: boxes whose area is below 32 x 32 px; `medium` up to 96 x 96, `large` beyond.
        median_px: median of the square roots of the areas; None without boxes.
    """

    name: str
    boxes: dict[str, int]
    small: int
    medium: int
    large: int
    median_px: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that is known of a data set.

    Attributes:
        path: the YAML.
        name: as shown.
        sha256: the hash by which stages know the data set; "" where something is broken.
        classes: one a class, in label order.
        splits: one a split that is there.
        odd: what need not be wrong: how many of a kind, and the first of them.
        problems: what is broken, the first `PROBLEMS_SHOWN`.
        problem_count: how much is broken.
    """

    path: str
    name: str = ""
    sha256: str = ""
    classes: tuple[Class, ...] = ()
    splits: dict[str, Split] = field(default_factory=dict)
    odd: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    problem_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One image, decoded, with its labels."""

    split: str
    path: Path
    labels: Labels
    problems: tuple[DataError, ...]
    sha256: str = ""
    size: tuple[int, int] = (0, 0)

    @property
    def place(self) -> str:
        return f"{self.split}/{self.path.name}"

    def sides_px(self) -> list[tuple[int, float, float]]:
        """Return the class, width and height of each box, in pixels."""
        height, width = self.size
        return [(label, w * width, h * height) for label, _, _, w, h in self.labels.boxes]


def check(path: Path) -> Picture:
    """Look a data set over; what is broken in it is in the result and raises nothing."""
    problems: list[DataError] = []
    try:
        settings = read_settings(path)
        dataset = resolve(settings, problems.append)
    except DataError as error:
        problems.append(error)
        return _with(problems, Picture(path=str(path)))
    problems += [error for split, error in dataset.absent.items() if split != "test"]
    with ThreadPoolExecutor(usable_cores()) as pool:
        looks = [
            pool.submit(_look, split, image, dataset) for split, images in dataset.splits.items() for image in images
        ]
        seen = [look.result() for look in looks]
    problems += [problem for one in seen for problem in one.problems]
    picture = Picture(
        path=str(path),
        name=dataset.name,
        sha256="" if problems else dataset.as_input().sha256,
        classes=_classes(dataset, seen),
        splits={split: _split(split, dataset, seen) for split in dataset.splits},
        odd=_named(_oddities(dataset, seen)),
    )
    return _with(problems, picture)


def _with(problems: Sequence[DataError], picture: Picture) -> Picture:
    shown = tuple(str(problem) for problem in problems[:PROBLEMS_SHOWN])
    return replace(picture, problems=shown, problem_count=len(problems))


def _look(split: str, path: Path, dataset: Dataset) -> _Seen:
    from slimdeploy.data.images import read_image

    problems: list[DataError] = []
    form = LabelFormat(classes=len(dataset.classes), keypoint_columns=dataset.keypoint_columns)
    labels = read_labels(label_path(path), form, problems.append)
    try:
        height, width = read_image(path).shape[:2]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (DataError, OSError):
        problems.append(problem_of(path, "does not decode"))
        return _Seen(split=split, path=path, labels=labels, problems=tuple(problems))
    return _Seen(split=split, path=path, labels=labels, problems=tuple(problems), sha256=digest, size=(height, width))


def _split(split: str, dataset: Dataset, seen: Iterable[_Seen]) -> Split:
    own = [one for one in seen if one.split == split]
    return Split(
        images=len(own),
        boxes=sum(len(one.labels.boxes) for one in own),
        without_file=sum(one.labels.missing for one in own),
        without_boxes=sum(not one.labels.missing and not one.labels.boxes for one in own),
        left_out=counted(one for one in dataset.left_out if one.split == split),
    )


def _classes(dataset: Dataset, seen: Iterable[_Seen]) -> tuple[Class, ...]:
    counts = [dict.fromkeys(dataset.splits, 0) for _ in dataset.classes]
    sides: list[list[float]] = [[] for _ in dataset.classes]  # square roots of areas, in pixels
    for one in seen:
        for label, width, height in one.sides_px():
            counts[label][one.split] += 1
            sides[label].append((width * height) ** 0.5)
    return tuple(_class(*parts) for parts in zip(dataset.classes, counts, map(sorted, sides), strict=True))


def _class(name: str, boxes: dict[str, int], sides: list[float]) -> Class:
    return Class(
        name=name,
        boxes=boxes,
        small=sum(side < SMALL_PX for side in sides),
        medium=sum(SMALL_PX <= side < LARGE_PX for side in sides),
        large=sum(side >= LARGE_PX for side in sides),
        median_px=round(sides[len(sides) // 2], 1) if sides else None,
    )


def _named(kinds: Iterable[tuple[str, list[str]]]) -> dict[str, Any]:
    return {what: {"count": len(places), "first": places[:NAMED]} for what, places in kinds if places}


def _oddities(dataset: Dataset, seen: Sequence[_Seen]) -> Iterable[tuple[str, list[str]]]:
    """Give each kind of what need not be wrong, with the places where it is."""
    yield "splits that are not there", [split for split in dataset.absent if split == "test"]
    yield "classes without a box to train on", _unseen(dataset, seen)
    yield "class names beyond ASCII", [name for name in dataset.classes if not name.isascii()]
    yield "file names beyond ASCII", [one.place for one in seen if not one.path.name.isascii()]
    yield "label files with repeated rows, which count once", [one.place for one in seen if one.labels.repeated]
    yield "images with boxes beyond their edge", [one.place for one in seen if _beyond(one.labels)]
    yield (
        f"images with boxes of a side below {TINY_PX} px",
        [one.place for one in seen if any(min(w, h) < TINY_PX for _, w, h in one.sides_px())],
    )
    listed = Counter((one.split, one.path) for one in seen)
    yield "images listed more than once", [f"{split}/{path.name}" for (split, path), n in listed.items() if n > 1]
    yield from _copies(seen)


def _unseen(dataset: Dataset, seen: Sequence[_Seen]) -> list[str]:
    if "train" not in dataset.splits:
        return []
    shown = {box[0] for one in seen if one.split == "train" for box in one.labels.boxes}
    return [name for number, name in enumerate(dataset.classes) if number not in shown]


def _beyond(labels: Labels) -> bool:
    return any(
        min(x - w / 2, y - h / 2) < -1e-3 or max(x + w / 2, y + h / 2) > 1 + 1e-3 for _, x, y, w, h in labels.boxes
    )


def _copies(seen: Sequence[_Seen]) -> Iterable[tuple[str, list[str]]]:
    """Give the images whose bytes are those of another file, in the same split and in others."""
    first: dict[str, _Seen] = {}
    within: list[str] = []
    across: list[str] = []
    for one in seen:
        other = first.setdefault(one.sha256, one) if one.sha256 else one
        if other.split != one.split:
            across.append(f"{one.place} as {other.place}")
        elif other.path != one.path:
            within.append(f"{one.place} as {other.place}")
    yield "images with the bytes of another in their split", within
    yield "images with the bytes of one in another split, so that scores flatter", across

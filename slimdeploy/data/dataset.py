"""Read and check a YOLO data set: its YAML, its images, its labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.errors import DataError
from slimdeploy.lineage import Input

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
LABEL_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A YOLO data set, its labels checked.

    Attributes:
        path: the YAML file.
        name: as shown: the YAML's `slimdeploy_name`, or the name of the folder it lies in.
        classes: class names, in label order.
        splits: image files of each split that the YAML names, sorted.
        rendered: whether the images are rendered scenes, as the YAML's `slimdeploy_rendered` says.
        tile: side of the tiles that bigger images were cut into, in pixels, as the YAML's `slimdeploy_tile` says; 0
            where they are whole.
        keypoint_columns: further columns of a label row that hold keypoints, from the YAML's `kpt_shape`.
    """

    path: Path
    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    rendered: bool = False
    tile: int = 0
    keypoint_columns: int = 0

    def images(self, split: str) -> tuple[Path, ...]:
        """Return the images of one split.

        Raises:
            DataError: the data set has no such split.
        """
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r}", wanted=f"one of {', '.join(sorted(self.splits))}")
        return self.splits[split]

    def as_input(self) -> Input:
        """Return the data set as a stage's input: its hash covers names, splits, image sizes and labels."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in sorted(self.splits):
            for image in self.splits[split]:
                labels = label_path(image)
                text = labels.read_bytes() if labels.exists() else b""
                digest.update(f"{split}/{image.name}/{image.stat().st_size}/".encode() + text)
        return Input(self.name, digest.hexdigest())

    def require_classes(self, classes: tuple[str, ...]) -> None:
        """Raise DataError unless a network with these classes fits the data set."""
        if classes != self.classes:
            raise DataError(
                f"{self.path} has the classes {list(self.classes)}",
                wanted=f"the network's classes {list(classes)}",
                do="name the data set that the network was trained on",
            )


def read_dataset(path: Path, *, check_labels: bool = True) -> Dataset:
    """Read a data set's YAML and check that its images and labels are there.

    Args:
        path: YAML with `names`, `train`, `val` and perhaps `test` and `path`; splits may be folders or lists of
            files, relative to `path`, which is relative to the YAML.
        check_labels: also read every label file.

    Raises:
        DataError: something is missing or wrong; the message names the file and, for labels, the line.
    """
    settings = _read_yaml(path)
    classes = _classes(settings.get("names"), path)
    root = (path.parent / str(settings.get("path") or "")).resolve()
    splits = {s: _images(settings[s], root, path, s) for s in ("train", "val", "test") if settings.get(s)}
    if "train" not in splits and "val" not in splits:
        raise DataError(f"{path} names no images", wanted="the keys train and val, each a folder of images")
    keypoint_columns = _keypoint_columns(settings.get("kpt_shape"), path)
    if check_labels:
        for images in splits.values():
            for image in images:
                read_labels(label_path(image), classes, keypoint_columns=keypoint_columns)
    return Dataset(
        path=path,
        name=str(settings.get("slimdeploy_name") or path.resolve().parent.name),
        classes=classes,
        splits=splits,
        rendered=bool(settings.get("slimdeploy_rendered", False)),
        tile=_tile(settings, path),
        keypoint_columns=keypoint_columns,
    )


def label_path(image: Path) -> Path:
    """Return where an image's labels lie: `labels` for the last folder called `images`, `.txt` for its suffix."""
    return beside(image, "labels")


def beside(image: Path, folder: str) -> Path:
    """Return an image's text file in a folder beside `images`, which is the last folder of that name."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = folder
            break
    return Path(*parts).with_suffix(".txt")


def read_labels(
    path: Path, classes: tuple[str, ...], *, keypoint_columns: int = 0
) -> list[tuple[int, float, float, float, float]]:
    """Return the boxes of one image as (class, centre x, centre y, width, height), the last four as shares in 0..1.

    A missing file means an image without objects. Rows with more than five columns are polygons, and give the box
    around them, or hold a box and `keypoint_columns` of keypoints behind it. A row that stands there twice counts
    once, as in ultralytics.

    Raises:
        DataError: a row is damaged, or names a class that the data set lacks.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text", wanted="a class number and four shares in each row") from error
    boxes = []
    for number, row in enumerate(text.splitlines(), start=1):
        if row.strip():
            fields = row.split()
            if keypoint_columns and len(fields) == LABEL_COLUMNS + keypoint_columns:
                fields = fields[:LABEL_COLUMNS]
            boxes.append(_box(fields, f"{path}:{number}", classes))
    return list(dict.fromkeys(boxes))


def _box(fields: list[str], where: str, classes: tuple[str, ...]) -> tuple[int, float, float, float, float]:
    try:
        number, *shares = (float(f) for f in fields)
    except ValueError as error:
        raise DataError(f"{where} holds {' '.join(fields)!r}", wanted="a class number and four shares") from error
    if number not in range(len(classes)):
        raise DataError(
            f"{where} names class {fields[0]}",
            wanted=f"0 to {len(classes) - 1}",
            do="mend the label, or the YAML's names",
        )
    if len(fields) > LABEL_COLUMNS and len(shares) % 2 == 0:
        xs, ys = shares[0::2], shares[1::2]
        shares = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)]
    if len(shares) != LABEL_COLUMNS - 1 or not all(-0.01 <= s <= 1.01 for s in shares):
        raise DataError(f"{where} holds {' '.join(fields)!r}", wanted="a class number and four shares in 0..1")
    return int(number), shares[0], shares[1], shares[2], shares[3]


def _read_yaml(path: Path) -> dict[str, Any]:
    with needs("onnx"):
        import yaml
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"no data set at {path}", wanted="a YAML file with names, train and val") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML: {error}") from error
    if not isinstance(settings, dict):
        raise DataError(f"{path} is no data set", wanted="the keys names, train and val")
    return settings


def _tile(settings: Mapping[str, Any], path: Path) -> int:
    tile = settings.get("slimdeploy_tile", 0)
    if not isinstance(tile, int):
        raise DataError(f"{path} has the slimdeploy_tile {tile!r}", wanted="a number of pixels")
    return tile


def _keypoint_columns(kpt_shape: Any, path: Path) -> int:
    if kpt_shape is None:
        return 0
    if not (isinstance(kpt_shape, list) and len(kpt_shape) == 2 and all(isinstance(one, int) for one in kpt_shape)):
        raise DataError(f"{path} has the kpt_shape {kpt_shape!r}", wanted="keypoints and values of each, as [17, 3]")
    return int(kpt_shape[0] * kpt_shape[1])


def _classes(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict) and sorted(names) == list(range(len(names))) and names:
        return tuple(str(names[i]) for i in range(len(names)))
    if isinstance(names, list) and names:
        return tuple(str(name) for name in names)
    raise DataError(f"{path} names no classes", wanted="names: {0: first, 1: second, ...}")


def _images(entry: Any, root: Path, yaml_path: Path, split: str) -> tuple[Path, ...]:
    entries = entry if isinstance(entry, list) else [entry]
    found: list[Path] = []
    for one in entries:
        place = root / str(one)
        if place.is_dir():
            found += [p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES]
        elif place.suffix == ".txt" and place.is_file():
            lines = place.read_text(encoding="utf-8").splitlines()
            found += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise DataError(f"{yaml_path}: the {split} split names {place}, which is not there")
    if not found:
        raise DataError(f"{yaml_path}: the {split} split holds no images", wanted="image files such as .jpg or .png")
    for image in found:
        _require_bytes(image)
    return tuple(sorted(found))


def _require_bytes(image: Path) -> None:
    """Refuse what ultralytics' loader would leave out of training without an error."""
    try:
        size = image.stat().st_size
    except OSError as error:
        raise DataError(f"no image at {image}", do="mend the list of images, or copy the image again") from error
    if not size:
        raise DataError(f"the image {image} is empty (0 bytes)", do="copy it again, or remove it and its labels")

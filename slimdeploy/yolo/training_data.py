"""What a training reads: lists of images and their labels, resolved by slimdeploy's own reader.

They are written into the training's folder, where every process of a launch for several GPUs finds them. ultralytics
never sees the user's YAML, so it runs no `download:` of it and asks nobody for a font; and it neither repairs images
nor writes caches beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import YOLODataset

from slimdeploy.data.dataset import Dataset
from slimdeploy.data.image_files import look_at
from slimdeploy.outputs import whole_file
from slimdeploy.yolo.failures import UnreadableImage

FILE = "data.json"
SPLITS = ("train", "val")
CHANNELS = 3
_NO_CACHE = Path("no such folder", ".npy")

Record = Mapping[str, Any]  # image, size (height, width), boxes, perhaps polygons


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """What `write_lists` wrote.

    Attributes:
        settings: what ultralytics' trainer calls its data; its splits are names in `records`.
        records: one object an image, by split.
    """

    settings: dict[str, Any]
    records: Mapping[str, list[Record]]


def write_lists(folder: Path, dataset: Dataset) -> None:
    """Write the images and labels that a training in `folder` reads.

    Raises:
        DataError: the data set has no images for a split, or a label is damaged.
    """
    records = {split: [_record(dataset, image) for image in dataset.images(split)] for split in SPLITS}
    plain = {"schema": 1, "data": str(dataset.path.absolute()), "classes": dataset.classes, "records": records}
    with whole_file(folder / FILE, replace=True) as partial:
        partial.write_text(json.dumps(plain, separators=(",", ":")), encoding="utf-8")


def _record(dataset: Dataset, image: Path) -> Record:
    labels = dataset.labels(image)
    record = {"image": str(image), "size": look_at(image).size, "boxes": labels.boxes}
    return record | ({"polygons": labels.polygons} if labels.polygons else {})


def read_lists(folder: Path) -> Lists:
    """Return what `write_lists` wrote."""
    plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
    settings = {
        "path": folder,
        "names": dict(enumerate(plain["classes"])),
        "nc": len(plain["classes"]),
        "channels": CHANNELS,
        **{split: split for split in SPLITS},
    }
    return Lists(settings=settings, records=plain["records"])


class ListedDataset(YOLODataset):  # type: ignore[misc]
    """ultralytics' data set over given records: nothing is searched for, repaired, left out or cached."""

    def __init__(self, *args: Any, records: list[Record], **kwargs: Any) -> None:
        self.records = records
        super().__init__(*args, **kwargs)
        self.records = []  # the labels hold all of it now
        self.npy_files = [_NO_CACHE] * self.ni  # a user's .npy beside an image is none of its cache

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the images."""
        return [record["image"] for record in self.records]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return the labels in ultralytics' form; outlines count where every box of the split has one."""
        labels = [_as_label(record) for record in self.records]
        self.verify_labels(labels, Path(FILE))
        return labels

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> Any:
        """Return an image; one that does not decode stops the training and is named."""
        try:
            return super().load_image(i, rect_mode, resize_short)
        except FileNotFoundError as error:
            raise UnreadableImage(self.im_files[i]) from error


def _as_label(record: Record) -> dict[str, Any]:
    rows = np.array(record["boxes"], dtype=np.float32).reshape(-1, 5)
    return {
        "im_file": record["image"],
        "shape": tuple(record["size"]),
        "cls": rows[:, :1],  # (n, 1)
        "bboxes": rows[:, 1:],  # (n, 4)
        "segments": [np.array(points, dtype=np.float32).reshape(-1, 2) for points in record.get("polygons", ())],
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }

"""Turn a VisDrone-DET download into a data set for training, with what the official scorer needs kept beside it."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slimdeploy._cores import usable_cores
from slimdeploy._progress import Progress
from slimdeploy.configs import VisdroneConfig
from slimdeploy.data import visdrone
from slimdeploy.data.images import read_image
from slimdeploy.data.tiles import crop, windows
from slimdeploy.data.visdrone import (
    CATEGORY,
    CLASSES,
    HEIGHT,
    OCCLUSION,
    REGION,
    SCORE,
    TRUNCATION,
    WIDTH,
    Rows,
    Source,
)
from slimdeploy.errors import StageFailed
from slimdeploy.lineage import Input, stage_run, write_json
from slimdeploy.outputs import refuse_existing

log = logging.getLogger("slimdeploy.data")

OUTPUT = "data.yaml"
NAME = "VisDrone2019-DET"
YAML_SPLIT = {"train": "train", "val": "val", "test-dev": "test"}
JPEG_QUALITY = 95
TRAIN = "train"
GREY = 114  # what YOLO pads images with


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One image of the data set: a whole one, or a tile.

    Attributes:
        split: the split's folder.
        file: the image's name.
        size: height and width, in pixels.
        rows: its annotations; (n, 8).
    """

    split: str
    file: str
    size: tuple[int, int]
    rows: Rows


def convert(folder: Path, config: VisdroneConfig, out: Path) -> dict[str, Any]:
    """Write a download as a YOLO data set.

    Args:
        folder: the download; see `visdrone.read_download`.
        config: whether to cut big images, and how.
        out: the folder to make: images/, labels/ (YOLO) and annotations/ (VisDrone's own rows, ignored regions and
            all), each with the splits; coco/, a JSON for each split; data.yaml and run.json. Images are hard links
            where the disk allows it, else copies.

    Returns:
        Counts by split: images, boxes, boxes without an area, ignored regions, ignored objects.

    Raises:
        DataError: the download is damaged; nothing is written.
        OutputExists: `out` is there already.
    """
    refuse_existing(out)
    sources = visdrone.read_download(folder)
    inputs = {"data": Input(NAME, visdrone.fingerprint(sources))}
    with stage_run("visdrone", config=config, inputs=inputs, out=out) as run:
        splits = list(dict.fromkeys(one.split for one in sources))
        for split in splits:
            for kind in ("images", "labels", "annotations"):
                (run.folder / kind / split).mkdir(parents=True)
        pieces = [piece for made in _all(sources, config, run.folder) for piece in made]
        (run.folder / "coco").mkdir()
        for split in splits:
            own = [piece for piece in pieces if piece.split == split]
            write_json(run.folder / "coco" / f"{split}.json", coco_document(own))
        (run.folder / OUTPUT).write_text(_yaml(splits, config), encoding="utf-8", newline="\n")
        run.results.update(_counts(sources, pieces))
    return dict(run.results)


def boxes(piece: Piece) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Return a piece's objects as they are labelled: their rows, and their corners cut at its edges, in pixels.

    Objects without an area are left out.
    """
    rows = piece.rows[visdrone.is_object(piece.rows)]
    height, width = piece.size
    corners = np.clip(visdrone.xyxy(rows), 0, [width, height, width, height])
    seen = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    return rows[seen], corners[seen]


def yolo_text(piece: Piece) -> str:
    """Return a piece's labels: class, centre, width and height, the last four as shares of the image."""
    rows, corners = boxes(piece)
    centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    shares = np.concatenate([centre, size], axis=1) / ([piece.size[1], piece.size[0]] * 2)
    labels = rows[:, CATEGORY] - 1
    lines = zip(labels.tolist(), shares.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{share:.6f}' for share in four)}\n" for label, four in lines)


def coco_document(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return a split as a COCO object, its categories numbered as VisDrone's, 1 to 10."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces, start=1):
        images.append({"id": number, "file_name": piece.file, "height": piece.size[0], "width": piece.size[1]})
        for row, (x0, y0, x1, y1) in zip(*(found.tolist() for found in boxes(piece)), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": row[CATEGORY],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "truncation": row[TRUNCATION],
                    "occlusion": row[OCCLUSION],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _all(sources: Sequence[Source], config: VisdroneConfig, folder: Path) -> Iterator[list[Piece]]:
    """Write every image and give its pieces in order, several at work at once; says now and then how far it is."""
    pool = ThreadPoolExecutor(usable_cores())
    far = Progress(log, "visdrone: {done} of {total} images", total=len(sources))
    try:
        waiting = [pool.submit(_write_image, one, config, folder) for one in sources]
        for done, one in enumerate(waiting, start=1):
            yield one.result()
            far.at(done)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_image(source: Source, config: VisdroneConfig, folder: Path) -> list[Piece]:
    image = read_image(source.image)
    size = (image.shape[0], image.shape[1])
    parts = windows(size, config.tile, config.overlap) if config.tile else ()
    painted = config.mask_ignored and source.split == TRAIN and mask_ignored(image, source.rows)
    if len(parts) < 2:
        file = f"{source.image.stem}.jpg" if painted else source.image.name
        piece = Piece(split=source.split, file=file, size=size, rows=source.rows)
        place = folder / "images" / piece.split / piece.file
        if painted:
            _write_jpeg(image, place)
        else:
            _link(source.image, place)
        _write_labels(piece, folder)
        return [piece]
    pieces = []
    for part in parts:
        left, top, right, bottom = part
        file = f"{source.image.stem}_{left}_{top}.jpg"
        piece = Piece(split=source.split, file=file, size=(bottom - top, right - left), rows=crop(source.rows, part))
        _write_jpeg(image[top:bottom, left:right], folder / "images" / piece.split / file)
        _write_labels(piece, folder)
        pieces.append(piece)
    return pieces


def mask_ignored(image: npt.NDArray[np.uint8], rows: Rows) -> bool:
    """Paint the ignored regions of an image grey, all but the labelled objects in them; return whether there are any.

    Args:
        image: (H, W, 3) uint8 BGR; painted in place.
        rows: its annotations; (n, 8).
    """
    hidden = np.zeros(image.shape[:2], dtype=np.bool_)
    for regions, hides in ((rows[rows[:, CATEGORY] == REGION], True), (rows[visdrone.is_object(rows)], False)):
        for left, top, right, bottom in np.maximum(visdrone.xyxy(regions), 0).astype(np.int64).tolist():
            hidden[top:bottom, left:right] = hides
    image[hidden] = GREY
    return bool(hidden.any())


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source.resolve(), place)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, place)


def _write_jpeg(image: npt.NDArray[np.uint8], place: Path) -> None:
    import cv2  # there already, since `read_image` is

    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise StageFailed(f"OpenCV could not encode {place.name}")
    place.write_bytes(jpeg.tobytes())


def _write_labels(piece: Piece, folder: Path) -> None:
    stem = Path(piece.file).stem
    lines = "".join(",".join(str(value) for value in row) + "\n" for row in piece.rows.tolist())
    for kind, text in (("labels", yolo_text(piece)), ("annotations", lines)):
        (folder / kind / piece.split / f"{stem}.txt").write_text(text, encoding="utf-8", newline="\n")


def _yaml(splits: Sequence[str], config: VisdroneConfig) -> str:
    tiled = f" in tiles of {config.tile} px" if config.tile else ""
    tiled += ", ignored regions masked" if config.mask_ignored and TRAIN in splits else ""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    places = "".join(f"{YAML_SPLIT[split]}: images/{split}\n" for split in splits)
    return (
        f"# Made by slimdeploy visdrone. Ignored regions are in annotations/ alone.\n{places}names:\n{names}"
        f"slimdeploy_name: {NAME}{tiled}\nslimdeploy_tile: {config.tile}\n"
    )


def _counts(sources: Sequence[Source], pieces: Sequence[Piece]) -> Mapping[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for piece in pieces:
        counts.setdefault(piece.split, Counter()).update(images=1, boxes=len(boxes(piece)[0]))
    for one in sources:
        objects = visdrone.is_object(one.rows)
        counts[one.split].update(
            source_images=1,
            without_area=int((objects & (one.rows[:, [WIDTH, HEIGHT]].min(axis=1, initial=1) == 0)).sum()),
            ignored_regions=int((one.rows[:, CATEGORY] == REGION).sum()),
            ignored_objects=int(((one.rows[:, SCORE] == 0) & (one.rows[:, CATEGORY] != REGION)).sum()),
        )
    return {split: dict(found) for split, found in counts.items()}

"""Render aerial scenes with their labels: data for the demo that needs no download and no licence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from slimdeploy.configs import SceneConfig
from slimdeploy.data import scene_camera, scene_ground, scene_layout, scene_objects
from slimdeploy.data.scene_frame import Canvas, Frame, Mask, Points
from slimdeploy.errors import StageFailed
from slimdeploy.outputs import whole_folder

log = logging.getLogger("slimdeploy.data")

NAME = "rendered scenes"
VISIBLE_SHARE = 0.4  # a thing of which less is seen gets no label
VISDRONE_CATEGORY = {"pedestrian": 1, "car": 4, "van": 5, "truck": 6}
IGNORED_CATEGORY = 0
JPEG_QUALITY = 93


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One thing's place in an image, cut at the image's edges.

    Attributes:
        kind: class name.
        ltwh: left, top, width and height, in whole pixels.
        inside: share of the thing that lies within the image.
        visible: share of the thing that is within the image and not covered.
    """

    kind: str
    ltwh: tuple[int, int, int, int]
    inside: float
    visible: float

    @property
    def labelled(self) -> bool:
        """Whether enough of the thing is seen."""
        return self.visible >= VISIBLE_SHARE and min(self.ltwh[2:]) >= 2


def render_dataset(folder: Path, config: SceneConfig) -> Path:
    """Render a data set of aerial scenes; the same config gives the same files.

    Args:
        folder: the folder to make: images/, labels/ (YOLO) and annotations/ (VisDrone's 8 columns), each with train/
            and val/, and data.yaml.
        config: how many images, how large, and the seed.

    Returns:
        The path of data.yaml.

    Raises:
        OutputExists: `folder` is there already.
        StageFailed: an image could not be written.
    """
    with whole_folder(folder) as partial:
        for split, count in (("train", config.train), ("val", config.val)):
            for kind in ("images", "labels", "annotations"):
                (partial / kind / split).mkdir(parents=True)
            for number in range(count):
                image, boxes = render(config, split, number)
                _write(partial, f"{split}/{number:05d}", image, boxes)
        (partial / "data.yaml").write_text(_yaml(config), encoding="utf-8", newline="\n")
    log.info("rendered %d + %d scenes of %d px: %s", config.train, config.val, config.size_px, folder)
    return folder / "data.yaml"


def render(config: SceneConfig, split: str, number: int) -> tuple[Canvas, tuple[Box, ...]]:
    """Render one image.

    Args:
        config: size and seed.
        split: `train` or `val`.
        number: position in the split; an image does not depend on the others.

    Returns:
        The image, (size_px, size_px, 3) uint8 BGR, and the boxes of everything within it, labelled or not.
    """
    rng = np.random.default_rng([config.seed, int(split == "val"), number])
    frame = scene_camera.new_frame(rng, config.size_px)
    scene = scene_layout.new_scene(rng, frame)
    canvas = scene_ground.paint_ground(rng, scene)
    things = sorted(scene.things, key=lambda thing: thing.height)
    shadows = [*scene_ground.shadow_polygons(scene), *(scene_objects.shadow(thing, frame) for thing in things)]
    _darken(canvas, shadows, frame)
    scene_ground.paint_roofs(rng, scene, canvas)
    owners = np.zeros(canvas.shape[:2], dtype=np.uint16)
    for value, thing in enumerate(things, start=1):
        scene_objects.draw(thing, frame, canvas)
        scene_objects.mark(scene_objects.silhouette(thing, frame), frame, owners, value)
    scene_ground.paint_trees(rng, scene, canvas, owners)
    outlines = [(thing.kind, frame.pixels(scene_objects.silhouette(thing, frame))) for thing in things]
    return scene_camera.photograph(rng, canvas), _boxes(outlines, owners, config.size_px)


def _darken(canvas: Canvas, shadows: Sequence[Points], frame: Frame) -> None:
    mask = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for polygon in shadows:
        scene_objects.mark(polygon, frame, mask, 255)
    soft = cv2.blur(mask, (3, 3)).astype(np.float32) * np.float32(frame.shade / 255)
    np.copyto(canvas, (canvas * (1 - soft[:, :, None])).astype(np.uint8))


def _boxes(outlines: Sequence[tuple[str, np.ndarray]], owners: Mask, size_px: int) -> tuple[Box, ...]:
    side = owners.shape[0]
    scale = side // size_px
    seen = np.bincount(owners.ravel(), minlength=len(outlines) + 1)
    boxes = []
    for value, (kind, outline) in enumerate(outlines, start=1):
        low = np.clip(outline.min(axis=0), 0, side)
        high = np.clip(outline.max(axis=0) + 1, 0, side)
        if (high - low).min() <= 0:
            continue
        whole, inside = _areas(outline, side)
        left, top = (int(v) for v in low // scale)
        right, bottom = (int(v) for v in -(-high // scale))
        boxes.append(
            Box(kind=kind, ltwh=(left, top, right - left, bottom - top), inside=inside / whole,
                visible=float(seen[value]) / whole)
        )  # fmt: skip
    return tuple(boxes)


def _areas(outline: np.ndarray, side: int) -> tuple[int, int]:
    """Canvas pixels that an outline fills: all of them, and those inside the canvas."""
    low, high = outline.min(axis=0), outline.max(axis=0) + 1
    whole = np.zeros((high - low)[::-1], dtype=np.uint8)
    cv2.fillPoly(whole, [(outline - low).astype(np.int32)], 1)
    x0, y0 = np.clip(-low, 0, None)
    x1, y1 = np.clip(side - low, 0, None)
    return int(whole.sum()), int(whole[y0:y1, x0:x1].sum())


def _write(folder: Path, stem: str, image: Canvas, boxes: Sequence[Box]) -> None:
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise StageFailed(f"OpenCV could not encode {stem}.jpg")
    (folder / "images" / f"{stem}.jpg").write_bytes(jpeg.tobytes())
    labels = "".join(_yolo_row(box, image.shape[0]) for box in boxes if box.labelled)
    (folder / "labels" / f"{stem}.txt").write_text(labels, encoding="utf-8", newline="\n")
    annotations = "".join(_visdrone_row(box) for box in boxes)
    (folder / "annotations" / f"{stem}.txt").write_text(annotations, encoding="utf-8", newline="\n")


def _yolo_row(box: Box, size_px: int) -> str:
    left, top, width, height = box.ltwh
    shares = (left + width / 2, top + height / 2, width, height)
    return (
        " ".join([str(scene_objects.CLASSES.index(box.kind)), *(f"{share / size_px:.6f}" for share in shares)]) + "\n"
    )


def _visdrone_row(box: Box) -> str:
    """Left, top, width, height, score, category, truncation and occlusion; what is hardly seen is an ignored region."""
    score, category = (1, VISDRONE_CATEGORY[box.kind]) if box.labelled else (0, IGNORED_CATEGORY)
    covered = 1 - box.visible / box.inside if box.inside else 1.0
    occlusion = 0 if covered < 0.02 else 1 if covered <= 0.5 else 2
    truncation = int(box.inside < 0.98)
    return ",".join(str(v) for v in (*box.ltwh, score, category, truncation, occlusion)) + "\n"


def _yaml(config: SceneConfig) -> str:
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(scene_objects.CLASSES))
    return (
        f"# Rendered by slimdeploy, seed {config.seed}: no photographs.\n"
        f"train: images/train\nval: images/val\nnames:\n{names}"
        f"slimdeploy_name: {NAME}\nslimdeploy_rendered: true\n"
    )

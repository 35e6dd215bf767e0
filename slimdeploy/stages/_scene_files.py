"""Plots and images of an evaluation as files, for those who look at them without a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from slimdeploy.data.images import read_image
from slimdeploy.records import Report, Scene, Seen
from slimdeploy.report.accuracy_plots import accuracy_pngs

RIGHT, WRONG, MISSED = (132, 220, 61), (73, 84, 255), (10, 214, 255)  # BGR; the page's green, red and yellow
LONGEST_PX = 1600  # of an image's longer side
GAP_PX = 8

Image = npt.NDArray[np.uint8]


def write_pictures(report: Report, images: Sequence[Path], folder: Path) -> None:
    """Write the plots as PNG, and each scene as a JPEG with the boxes of its models side by side.

    Args:
        report: with its evaluation; without one, nothing is written.
        images: the split that was scored, among them the scenes' files.
        folder: where they go: `precision.png`, `confusion.png`, and `worst-1-NAME.jpg`.
    """
    if report.evaluation is None:
        return
    for name, png in accuracy_pngs(report).items():
        (folder / f"{name}.png").write_bytes(png)
    paths = {path.name: path for path in images}
    numbers: dict[str, int] = {}
    for scene in report.evaluation.scenes:
        numbers[scene.why] = numbers.get(scene.why, 0) + 1
        stem = re.sub(r"[^\w.-]", "_", Path(scene.file).stem)
        _write(folder / f"{scene.why}-{numbers[scene.why]}-{stem}.jpg", _side_by_side(scene, paths[scene.file]))


def _side_by_side(scene: Scene, path: Path) -> Image:
    image = read_image(path)
    scale = min(1.0, LONGEST_PX / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    gap = np.full((small.shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    panels = [_drawn(small.copy(), seen, scale) for seen in scene.seen.values()]
    parts = [part for panel in panels for part in (panel, gap)][:-1]
    return np.concatenate(parts, axis=1)


def _drawn(image: Image, seen: Seen, scale: float) -> Image:
    for xyxy in seen.missed:
        _box(image, xyxy, scale, MISSED)
    for one in reversed(seen.found):  # the best ones on top
        _box(image, one.xyxy, scale, RIGHT if one.right else WRONG)
    return image


def _box(image: Image, xyxy: Sequence[float], scale: float, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (round(scale * value) for value in xyxy)
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, 1)


def _write(path: Path, image: Image) -> None:
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if done:
        path.write_bytes(jpeg.tobytes())

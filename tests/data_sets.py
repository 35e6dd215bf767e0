"""Small data sets of real image files, in the layouts that tools write."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("car", "van")
SIDE = 64
ROW = "0 0.5 0.5 0.2 0.2\n"


def write_image(path: Path, size: tuple[int, int] = (24, 32), seed: int = 0) -> Path:
    """Write an image of noise; its suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def write_labelled(folder: Path, split: str, name: str, rows: str = ROW, seed: int = 0) -> Path:
    """Write images/SPLIT/NAME and its labels below a folder; return the image."""
    image = write_image(folder / "images" / split / name, seed=seed)
    labels = (folder / "labels" / split / name).with_suffix(".txt")
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text(rows, encoding="utf-8")
    return image


def write_yaml(folder: Path, text: str = "train: images/train\nval: images/val\nnames: [car, van]\n") -> Path:
    """Write data.yaml; return its path."""
    path = folder / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_set(folder: Path, count: int = 3) -> Path:
    """Write a data set of as many images in train and in val; return its YAML."""
    for split, seed in (("train", 10), ("val", 20)):
        for number in range(count):
            write_labelled(folder, split, f"{number}.jpg", f"{number % 2} 0.5 0.5 0.2 0.2\n", seed + number)
    return write_yaml(folder)


def write_shapes(folder: Path, split: str, count: int, seed: int) -> None:
    """Write images that each hold one bright square or bar, with its label."""
    rng = np.random.default_rng(seed)
    (folder / "images" / split).mkdir(parents=True)
    (folder / "labels" / split).mkdir(parents=True)
    for i in range(count):
        label = i % 2
        width, height = (16, 16) if label == 0 else (32, 10)
        x, y = (int(v) for v in rng.integers(0, SIDE - 32, 2))
        image = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        image[y : y + height, x : x + width] = 220
        cv2.imwrite(str(folder / "images" / split / f"{i}.png"), image)
        box = ((x + width / 2) / SIDE, (y + height / 2) / SIDE, width / SIDE, height / SIDE)
        text = f"{label} " + " ".join(f"{v:.5f}" for v in box) + "\n"
        (folder / "labels" / split / f"{i}.txt").write_text(text, encoding="utf-8")

"""Small data sets of real image files, in the layouts that tools write."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("car", "van")
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

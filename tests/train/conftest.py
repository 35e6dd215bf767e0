"""A tiny data set and a tiny network, so that real training takes seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

CLASSES = ("square", "bar")
SIDE = 64


def write_images(folder: Path, split: str, count: int, seed: int) -> None:
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


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """The YAML of a data set of 16 training and 8 validation images, 64 px, two classes."""
    folder = tmp_path_factory.mktemp("tiny-data")
    write_images(folder, "train", 16, seed=1)
    write_images(folder, "val", 8, seed=2)
    path = folder / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: {0: square, 1: bar}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A stock YOLOv8n checkpoint with new weights and lively BatchNorm statistics, for the tiny classes."""
    import torch
    from torch import nn

    from slimdeploy.yolo import checkpoint, training

    module = training.new_network("yolov8n.yaml", CLASSES, seed=0)
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = 0.5 + torch.rand(layer.num_features, generator=generator)
            layer.bias.data = 0.2 * torch.randn(layer.num_features, generator=generator)
            layer.running_mean = 0.1 * torch.randn(layer.num_features, generator=generator)
            layer.running_var = 0.5 + torch.rand(layer.num_features, generator=generator)
    path = tmp_path_factory.mktemp("tiny-weights") / "dense.pt"
    checkpoint.save(module, path, origin={"made_for": "tests"})
    return path

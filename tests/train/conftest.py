"""A tiny data set and a tiny network, so that real training takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from data_sets import write_shapes

CLASSES = ("square", "bar")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """The YAML of a data set of 16 training and 8 validation images, 64 px, two classes."""
    folder = tmp_path_factory.mktemp("tiny-data")
    write_shapes(folder, "train", 16, seed=1)
    write_shapes(folder, "val", 8, seed=2)
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

"""Scores against ultralytics' own validator on the same checkpoint and images, by ultralytics' metric."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from slimdeploy.accuracy import coco
from slimdeploy.accuracy.evaluate import score
from slimdeploy.accuracy.matches import Keeping
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.board.letterbox import Placement
from slimdeploy.configs import ValConfig
from slimdeploy.data.dataset import read_dataset

POINTS = 100


def by_ultralytics_metric(keeping: Keeping) -> tuple[float, float]:
    """Return ultralytics' mAP50 and mAP50-95 of the boxes that a scorer kept."""
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import ap_per_class, box_iou

    validator = DetectionValidator(args={"task": "detect", "mode": "val"})
    right = []
    for found, truth in zip(keeping.detections, keeping.truths, strict=True):
        labels, classes = torch.from_numpy(found.labels), torch.from_numpy(truth.labels)
        overlaps = box_iou(torch.from_numpy(truth.xyxy).float(), torch.from_numpy(found.xyxy))
        right.append(validator.match_predictions(labels, classes, overlaps).numpy())
    ap = ap_per_class(
        np.concatenate(right),
        np.concatenate([one.scores for one in keeping.detections]),
        np.concatenate([one.labels for one in keeping.detections]),
        np.concatenate([one.labels for one in keeping.truths]),
    )[5]  # (classes, IoUs)
    return float(ap[:, 0].mean()), float(ap.mean())


def ultralytics_val(weights: Path, data: Path, imgsz: int, folder: Path) -> tuple[float, float]:
    """Return what `yolo val rect=False` says: at the input's size.

    Without it, `yolo val` pads the input of a .pt by up to a stride, which no exported model does.
    """
    from ultralytics import YOLO

    found = YOLO(weights).val(
        data=str(data), imgsz=imgsz, batch=8, device="cpu", plots=False, verbose=False, workers=0, rect=False,
        project=str(folder), name="val",
    )  # fmt: skip
    return float(found.box.map50), float(found.box.map)


def both(weights: Path, data: Path, imgsz: int, folder: Path):
    keeping = Keeping(coco.score)
    artifact = read_artifact(weights, imgsz=(imgsz, imgsz))
    score(artifact, read_dataset(data), ValConfig(imgsz=imgsz), scorer=keeping)
    return by_ultralytics_metric(keeping), ultralytics_val(weights, data, imgsz, folder)


@pytest.fixture
def uncut(monkeypatch):
    """Leave boxes uncut at the image's edge, as ultralytics' own metric judges them."""

    def to_original(self, xyxy):
        gain = np.array([self.resized[1] / self.original[1], self.resized[0] / self.original[0]] * 2)
        return ((xyxy - np.array([self.left, self.top] * 2)) / gain).astype(np.float32)

    monkeypatch.setattr(Placement, "to_original", to_original)


@pytest.mark.slow
@pytest.mark.usefixtures("uncut")
def test_a_trained_checkpoint_has_the_map_that_ultralytics_gives_it(tmp_path):
    places = [os.environ.get(name) for name in ("SLIMDEPLOY_DATA", "SLIMDEPLOY_WEIGHTS")]
    if not all(places):
        pytest.skip("SLIMDEPLOY_DATA and SLIMDEPLOY_WEIGHTS, a detector of its aerial_cars, are not set")
    ours, theirs = both(Path(places[1]), Path(places[0]) / "aerial_cars" / "data.yaml", 320, tmp_path)
    assert theirs[1] > 0.3
    assert POINTS * np.abs(np.subtract(ours, theirs)).max() < 0.1

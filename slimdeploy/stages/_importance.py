"""Rank the channels of a stock network by the criterion that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy.channels import Coupling
from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import Dataset, read_dataset
from slimdeploy.errors import UsageError
from slimdeploy.stages._trials import spread

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.yolo.moments import Covariances

BATCH = 8  # images whose gradients are added up before they are squared
BATCHES = 16


def importance_of(
    module: nn.Module,
    coupling: Coupling,
    config: PruneConfig,
    data: Path | None,
    covariances: Covariances | None = None,
) -> dict[str, tuple[float, ...]]:
    """Return one value a channel, for every group by its name; the higher, the longer a channel stays.

    Args:
        module: the stock network; it is not changed.
        coupling: its groups.
        config: the criterion.
        data: YAML of the data set that `taylor` takes its gradients from.
        covariances: of what layers read, which `reconstruction` needs.

    Raises:
        UsageError: `taylor` without data, or for a network that is no detector; `reconstruction` without covariances.
        DataError: the data set is missing, mislabelled, or has other classes.
    """
    from slimdeploy.yolo import coupling as couplings
    from slimdeploy.yolo import importance, prunable

    if config.criterion == "random":
        return importance.chance(coupling, config.seed)
    split = prunable.split_copy(module)
    if config.criterion == "magnitude":
        return importance.magnitude(split, coupling)
    if config.criterion == "taylor":
        return importance.taylor(split, coupling, list(_batches(module, config, data)))
    if config.criterion == "reconstruction":
        return importance.reconstruction(split, coupling, _required(covariances))
    return couplings.scale_importance(split, coupling)


def _required(covariances: Covariances | None) -> Covariances:
    if covariances is None:
        raise UsageError(
            "the criterion reconstruction without images to fit weights on",
            wanted="a data set, and 1 or more images of it",
            do="add --data, or take another --criterion",
        )
    return covariances


def _batches(module: nn.Module, config: PruneConfig, data: Path | None) -> Iterator[Mapping[str, Any]]:
    from slimdeploy.yolo.checkpoint import class_names

    if data is None:
        raise UsageError(
            "the criterion taylor without data", wanted="a data set to take gradients from", do="add --data"
        )
    dataset = read_dataset(data, check_labels=False)
    dataset.require_classes(class_names(module))
    chosen = spread(dataset, BATCH * BATCHES)
    for start in range(0, len(chosen), BATCH):
        yield _batch(chosen[start : start + BATCH], dataset, config.imgsz)


def _batch(paths: list[Path], dataset: Dataset, imgsz: int) -> Mapping[str, Any]:
    """Return images and boxes as ultralytics' loss takes them; boxes as shares of the padded input."""
    import numpy as np
    import torch

    from slimdeploy.board.letterbox import letterbox
    from slimdeploy.data.images import read_image

    images, rows = [], []
    for number, path in enumerate(paths):
        input_chw, place = letterbox(read_image(path), (imgsz, imgsz))
        images.append(input_chw)
        scale = np.array([place.resized[1], place.resized[0]] * 2) / imgsz
        shift = np.array([place.left, place.top, 0, 0]) / imgsz
        for label, *box in dataset.labels(path).boxes:
            rows.append((number, label, *(np.array(box) * scale + shift)))
    table = torch.tensor(np.array(rows, dtype=np.float32).reshape(-1, 6))
    return {
        "img": torch.from_numpy(np.stack(images)),
        "batch_idx": table[:, 0],
        "cls": table[:, 1:2],
        "bboxes": table[:, 2:],
    }

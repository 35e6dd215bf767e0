"""Look at what layers read on training images of a data set, and fit the weights that stay after a cut to it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy.channels import Coupling
from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import DataError
from slimdeploy.stages._trials import trial_images

if TYPE_CHECKING:
    import torch
    from torch import nn

    from slimdeploy.yolo.moments import Covariances
    from slimdeploy.yolo.reconstruct import Refit

MACS = 4e12  # of all passes together, about a minute on two cores; of larger networks there are fewer images
PASSES = 5  # through the cut network, reckoned from YOLOv8's blocks: each layer runs what lies before it in its block
WHOLE_PASSES = 2  # through the whole one: what it finds, and what its layers give
BYTES = 2e9  # of activations held at once
HELD = 16  # bytes for each value of the largest map: what a block reads and makes, of two networks, in 4 bytes each
LEAST_IMAGES = 4

log = logging.getLogger("slimdeploy.prune")
Kept = Mapping[str, Sequence[int]]


def fitted_on(config: PruneConfig, data: Path | None) -> Path | None:
    """Return the data set whose images the weights that stay are fitted on; None where they stay as they are."""
    return data if config.reconstruct_images else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the weights that stay were fitted on, and how well.

    Attributes:
        images: on how many they were.
        layers: how far each layer's outputs lie from the whole network's.
    """

    images: int
    layers: tuple[Refit, ...]


def cut_and_fit(
    module: nn.Module, coupling: Coupling, kept: Kept, config: PruneConfig, data: Path
) -> tuple[nn.Module, Fit]:
    """Return a cut copy of a stock network whose weights were fitted to give what the whole one gives.

    Args:
        module: the stock network; it is not changed.
        coupling: its groups.
        kept: positions that stay, for every group by its name.
        config: on how many images, at which size.
        data: YAML of the data set.

    Returns:
        The network, and how well it could be fitted.

    Raises:
        DataError: the data set is missing, has other classes, or has no training images.
    """
    from slimdeploy.yolo import coupling as cutting
    from slimdeploy.yolo import prunable
    from slimdeploy.yolo.reconstruct import reconstruct

    widths = {name: len(positions) for name, positions in kept.items()}
    images, source = _images(module, coupling, widths, config, data)
    log.info("prune: fitting the weights that stay on %d %s", len(images), source)
    dense = prunable.split_copy(module).eval()
    made = copy.deepcopy(dense)
    cutting.cut(made, coupling, kept)
    rows = {layer: kept[group.name] for group in coupling.groups for layer in group.layers}
    refits = reconstruct(made, dense, rows, images)
    prunable.join(made)
    return made, Fit(images=len(images), layers=refits)


def covariances_of(module: nn.Module, coupling: Coupling, config: PruneConfig, data: Path) -> Covariances:
    """Return the covariance of what every layer reads that reads a group's channels, by its name.

    Args and Raises: as in `cut_and_fit`.
    """
    from slimdeploy.yolo import prunable
    from slimdeploy.yolo.moments import input_covariances

    images, source = _images(module, coupling, coupling.whole(), config, data)
    log.info("prune: looking at what layers read, on %d %s", len(images), source)
    readers = {reader.layer for group in coupling.groups for reader in group.readers}
    return input_covariances(prunable.split_copy(module).eval(), readers, images)


def _images(
    module: nn.Module, coupling: Coupling, widths: Mapping[str, int], config: PruneConfig, data: Path
) -> tuple[torch.Tensor, str]:
    import numpy as np
    import torch

    from slimdeploy.yolo.checkpoint import class_names

    if not read_dataset(data, check_labels=False).names_split("train"):
        raise DataError(
            f"{data} has no training images to fit weights on",
            wanted="a train split: what a network is scored on must not shape it",
            do="add one, or leave the weights as they are with --reconstruct-images 0",
        )
    count = images_to_fit(coupling, widths, config)
    images, source = trial_images(data, class_names(module), config.imgsz, count)
    return torch.from_numpy(np.stack(images)), source


def images_to_fit(coupling: Coupling, widths: Mapping[str, int], config: PruneConfig) -> int:
    """Return on how many images a network of these widths is fitted, so that time and memory stay bearable."""
    macs = WHOLE_PASSES * coupling.macs(coupling.whole()) + PASSES * coupling.macs(widths)
    largest = max(layer.outputs * layer.positions for layer in coupling.layers)
    affordable = int(min(MACS / macs, BYTES / (HELD * largest)))
    return min(config.reconstruct_images, max(affordable, LEAST_IMAGES))

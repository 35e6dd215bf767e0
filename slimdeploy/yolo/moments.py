"""How what a layer reads varies, and what its weights can make up for when some of it goes.

A layer's inputs are correlated, so that most of what a lost channel carried can be told from those that are left. With
the covariance of its inputs on some images, the weights of the others that make up for a loss best are linear least
squares, in closed form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from slimdeploy.yolo import heads
from slimdeploy.yolo.coupling import convolutions_of
from slimdeploy.yolo.places import evenly, map_size, patches

RIDGE = 1e-3  # of the mean variance of a layer's inputs: keeps weights of inputs that hardly vary near what they were
LEAST_RIDGE = 1e-8  # of inputs that do not vary at all

Covariances = Mapping[str, torch.Tensor]


def can_be_fitted(module: nn.Module) -> dict[str, Any]:
    """Return the layers of a split network whose weights can be fitted to their inputs, by name.

    A depthwise convolution reads one channel for each that it makes, so it has nothing to make up with.
    """
    constant = heads.constant_layers(module)
    return {
        name: layer for name, layer in convolutions_of(module).items() if _mixes(layer) and id(layer) not in constant
    }


def _mixes(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, nn.ConvTranspose2d)) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def matrix_of(layer: Any) -> torch.Tensor:
    """Return a copy of a layer's weights as a matrix, (outputs, inputs), in double precision.

    Of a convolution a kernel's weights stand together, channel by channel; of a transposed one each output channel has
    a row for every place of the kernel.
    """
    weight = layer.weight.detach().to(torch.float64, copy=True)
    return weight.flatten(1).T if isinstance(layer, nn.ConvTranspose2d) else weight.flatten(1)


def set_matrix(layer: Any, matrix: torch.Tensor) -> None:
    """Give a layer the weights of a matrix as `matrix_of` returns it."""
    made = matrix.T if isinstance(layer, nn.ConvTranspose2d) else matrix
    layer.weight.data.copy_(made.reshape(layer.weight.shape))


def columns_of(layer: Any, channels: Sequence[int]) -> torch.Tensor:
    """Return the columns of a layer's matrix that read some channels; shape (channels, columns of each)."""
    each = layer.weight[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
    return torch.tensor(channels)[:, None] * each + torch.arange(each)


class Moments:
    """The covariance of samples that come in batches.

    Args:
        sides: how many values a sample has.
    """

    def __init__(self, sides: int) -> None:
        self.count = 0
        self._sum = torch.zeros(sides, dtype=torch.float64)
        self._products = torch.zeros(sides, sides, dtype=torch.float64)

    def add(self, samples: torch.Tensor) -> None:
        """Add samples; shape (n, sides)."""
        self.count += len(samples)
        self._sum += samples.sum(0)
        self._products += samples.T @ samples

    @property
    def mean(self) -> torch.Tensor:
        """Shape (sides,)."""
        return self._sum / self.count

    @property
    def covariance(self) -> torch.Tensor:
        """Shape (sides, sides)."""
        return self._products / self.count - torch.outer(self.mean, self.mean)


def input_covariances(
    module: nn.Module, names: Collection[str], images: torch.Tensor, *, batch: int = 8
) -> Covariances:
    """Return the covariance of what layers read, by name, in single precision; of those alone that run.

    Places are spread evenly: to rank channels at objects, as weights are fitted there, was tried and gained nothing.

    Args:
        module: a split network in eval mode.
        names: the layers, of `can_be_fitted`.
        images: RGB in 0..1; shape (N, 3, H, W).
        batch: images that go through at once.
    """
    layers = {name: layer for name, layer in can_be_fitted(module).items() if name in names}
    found: dict[str, Moments] = {}

    def note(name: str, layer: Any, inputs: torch.Tensor) -> None:
        samples = patches(layer, inputs, evenly(layer, map_size(layer, inputs), len(images)))
        found.setdefault(name, Moments(samples.shape[1])).add(samples)

    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: note(name, layer, inputs[0]))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            for part in images.split(batch):
                module(part)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found.pop(name).covariance.float() for name in list(found)}  # of x they take 5 GB until then


def ridged(covariance: torch.Tensor) -> torch.Tensor:
    """Return a covariance in double precision that can be inverted."""
    whole = covariance.double()
    ridge = max(RIDGE * float(whole.diagonal().mean()), LEAST_RIDGE)
    return whole + ridge * torch.eye(len(whole), dtype=torch.float64)


def compensated(matrix: torch.Tensor, gone: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Return a layer's weights without some inputs, the others changed to make up for them as well as they can.

    Args:
        matrix: of the layer, (outputs, inputs).
        gone: the columns that go.
        covariance: of its inputs.
    """
    left = torch.ones(matrix.shape[1], dtype=torch.bool)
    left[gone] = False
    kept = left.nonzero()[:, 0]
    among = ridged(covariance)
    made = torch.zeros_like(matrix)
    made[:, kept] = matrix[:, kept]
    if len(kept):
        made[:, kept] += torch.linalg.solve(among[kept][:, kept], among[kept][:, gone] @ matrix[:, gone].T).T
    return made

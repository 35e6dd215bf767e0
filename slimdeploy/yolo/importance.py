"""How much each channel matters: the criteria by which the channels of a group are ranked.

Each takes the split network that the coupling was found in, and returns for every group, by its name, one value a
channel, 0 or more. `coupling.scale_importance` is another one.
"""

from __future__ import annotations

import contextlib
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from slimdeploy.channels import CoupledGroup, Coupling, Reader
from slimdeploy.errors import UsageError
from slimdeploy.yolo.coupling import convolutions_of, norms_of, scale_importance
from slimdeploy.yolo.moments import Covariances, columns_of, matrix_of, ridged

# Gains of the detection loss, as in YOLOv8's recipe; they weigh box, class and distribution against each other.
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}

STEPS = 64  # in which `reconstruction` takes a group's channels, at most about

Scores = dict[str, tuple[float, ...]]


def magnitude(module: nn.Module, coupling: Coupling) -> Scores:
    """Return the length of all weights that make or read a channel, each layer's divided by its mean.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, its group magnitude.
    """
    convs = convolutions_of(module)
    scores = {}
    for group in coupling.groups:
        parts = [_length(convs[layer], 0) for layer in group.layers]
        for reader in group.readers:
            columns = _length(convs[reader.layer], 1)
            parts += [columns[offset : offset + group.width] for offset in reader.offsets]
        relative = torch.stack([part / part.mean().clamp(min=1e-12) for part in parts])  # (layers, width)
        scores[group.name] = tuple(relative.mean(0).tolist())
    return scores


def _length(layer: Any, side: int) -> torch.Tensor:
    """Return the length of a layer's weights by output channel (side 0) or input channel (side 1)."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.ConvTranspose2d):  # its inputs come first
        weight = weight.transpose(0, 1)
    return weight.double().transpose(0, side).flatten(1).norm(dim=1)


def reconstruction(module: nn.Module, coupling: Coupling, covariances: Covariances) -> Scores:
    """Return what the layers that read a channel could not make up for, as a share of the variance of their outputs.

    Channels are taken one by one, each time the one that costs least, the weights of the others making up for what
    went; wide groups lose several at a time. What was lost with a channel is its score: those of the channels that go
    add up to the share that is lost; those of all channels to 1, or less where other groups' channels stand in.

    Args:
        module: the split network; it is not changed.
        coupling: its groups.
        covariances: of what layers read, of `moments.input_covariances`. Groups that only layers of training read
            are ranked by BatchNorm scales.

    Source: Kurtic et al., "ZipLM: Inference-Aware Structured Pruning of Language Models", NeurIPS 2023, who remove
    whole structures in the manner of the Optimal Brain Surgeon; here coupled channels of convolutions, by the
    covariance of what each layer reads.
    """
    layers, scales = convolutions_of(module), scale_importance(module, coupling)
    return {group.name: _one_by_one(group, layers, covariances) or scales[group.name] for group in coupling.groups}


def _one_by_one(group: CoupledGroup, layers: Mapping[str, Any], covariances: Covariances) -> tuple[float, ...]:
    readers = [
        _Reading(layers[reader.layer], reader, group.width, covariances[reader.layer])
        for reader in group.readers
        if reader.layer in covariances
    ]
    if not readers:
        return ()
    left = torch.arange(group.width)
    scores = torch.zeros(group.width, dtype=torch.float64)
    while len(left):
        losses = torch.stack([reader.losses(left) for reader in readers]).mean(0)
        going = losses.argsort(stable=True)[: max(1, group.width // STEPS)]
        scores[left[going]] = losses[going].clamp(min=float(scores.max()))  # what goes later matters more
        for reader in readers:
            reader.remove(left[going])
        left = left[~torch.isin(torch.arange(len(left)), going)]
    return tuple(scores.tolist())


class _Reading:
    """A layer that reads a group's channels, some of them gone and made up for.

    Args:
        layer: the layer.
        reader: where in its inputs the channels lie.
        width: of the group.
        covariance: of its inputs.
    """

    def __init__(self, layer: Any, reader: Reader, width: int, covariance: torch.Tensor) -> None:
        self._matrix = matrix_of(layer).contiguous()
        parts = [columns_of(layer, range(offset, offset + width)) for offset in reader.offsets]
        self._columns = torch.cat(parts, 1)  # (width, columns of a channel)
        among = ridged(covariance)
        self._variance = ((self._matrix @ among) * self._matrix).sum().clamp(min=1e-12)
        self._inverse = torch.linalg.inv(among)

    def losses(self, channels: torch.Tensor) -> torch.Tensor:
        """Return which share of the outputs' variance each channel would cost; shape (channels,)."""
        columns = self._columns[channels]
        inverse = self._inverse[columns[:, :, None], columns[:, None, :]]  # (channels, columns, columns)
        read = self._matrix[:, columns].permute(1, 2, 0)  # (channels, columns, outputs)
        return (read * torch.linalg.solve(inverse, read)).sum((1, 2)) / self._variance

    def remove(self, channels: torch.Tensor) -> None:
        """Take channels away, and let the others make up for them."""
        gone = self._columns[channels].flatten()
        rows = self._inverse[gone]
        share = torch.linalg.solve(rows[:, gone], rows)  # (gone, inputs)
        self._matrix.addmm_(self._matrix[:, gone], share, alpha=-1)
        self._inverse.addmm_(rows.T, share, alpha=-1)
        self._matrix[:, gone] = 0


def chance(coupling: Coupling, seed: int) -> Scores:
    """Return seeded random values: the control that a criterion must beat."""
    numbers = random.Random(seed)
    return {group.name: tuple(numbers.random() for _ in range(group.width)) for group in coupling.groups}


def taylor(module: nn.Module, coupling: Coupling, batches: Sequence[Mapping[str, torch.Tensor]]) -> Scores:
    """Return how much the loss would change, to first order, if a channel were 0: its mean square over batches.

    Args:
        module: the split network; its weights and statistics are not changed.
        coupling: its groups.
        batches: labelled images: `img` (B, 3, H, W), `batch_idx` (n,), `cls` (n, 1), `bboxes` (n, 4) as shares.

    Raises:
        UsageError: the network is no detector, whose loss this knows.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, gates behind BatchNorm.
    """
    if module.task != "detect":
        raise UsageError(
            f"the criterion taylor for a network for the task {module.task!r}", wanted="a detector",
            do="take another --criterion",
        )  # fmt: skip
    norms = norms_of(module)
    total: dict[str, Any] = defaultdict(float)
    with _with_loss(module):
        for batch in batches:
            module.zero_grad(set_to_none=True)
            module.loss(batch)[0].sum().backward()
            for group in coupling.groups:
                change = sum(_change(norms[layer]) for layer in group.layers)
                total[group.name] += change.double() ** 2
    module.zero_grad(set_to_none=True)
    return {name: tuple((value / len(batches)).sqrt().tolist()) for name, value in total.items()}


def _change(norm: Any) -> Any:
    """Return what the loss gains by leaving out each channel behind a BatchNorm, to first order; shape (width,)."""
    return (norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).detach()


@contextlib.contextmanager
def _with_loss(module: nn.Module) -> Iterator[None]:
    """Give a network the loss and the head that training gives it, BatchNorm fixed, and take them away again."""
    before = module.__dict__.get("args"), getattr(module, "criterion", None), module.training
    module.args, module.criterion = SimpleNamespace(**GAINS), None
    module.train()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    try:
        yield
    finally:
        module.args, module.criterion = before[:2]
        module.train(before[2])

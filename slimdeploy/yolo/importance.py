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

from slimdeploy.channels import Coupling
from slimdeploy.errors import UsageError
from slimdeploy.yolo.coupling import convolutions_of, norms_of

# Gains of the detection loss, as in YOLOv8's recipe; they weigh box, class and distribution against each other.
GAINS = {"box": 7.5, "cls": 0.5, "dfl": 1.5}

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

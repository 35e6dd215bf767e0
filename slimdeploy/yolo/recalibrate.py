"""Measure BatchNorm statistics anew, where they lag behind the weights.

Running statistics follow the weights with a delay of some 30 steps. Under a sparsity penalty every scale shrinks
at every step, each layer's statistics are a little too large, and over the depth of a network that multiplies: scores
in evaluation collapse while the training loss is as good as ever.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def recalibrate(module: nn.Module, images: Iterable[torch.Tensor]) -> None:
    """Replace every BatchNorm's running statistics by the plain mean over some batches, in place.

    Args:
        module: the network; its mode stays as it is.
        images: batches of training images; each (B, 3, H, W), float in 0..1. Without any, nothing changes.
    """
    batches = list(images)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)] if batches else []
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # a cumulative mean
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for norm, (training, momentum) in zip(norms, before, strict=True):
        norm.train(training)
        norm.momentum = momentum

"""The sparsity penalty on BatchNorm scales that makes channels prunable.

With v the scales of one channel in all the layers of its group, and L those layers, the penalty is
sr * sum of sqrt(L) * ||v||: L1 where a group is one layer (Network Slimming, Liu et al., ICCV 2017), and group lasso
(Yuan & Lin, 2006) where channels of several layers are removed together. The factor sqrt(L) makes scales of equal size
shrink at the same rate in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from slimdeploy.yolo import gammas
from slimdeploy.yolo.gammas import Group


@dataclass(slots=True)
class Penalty:
    """Acts on the scales around one optimizer step.

    Attributes:
        groups: the scales that go together.
        form: `proximal` or `subgradient`.
        sr: strength in the present epoch.
    """

    groups: Sequence[Group]
    form: str
    sr: float

    def before_step(self) -> None:
        """Add the subgradient to the gradients, which must be unscaled and clipped already."""
        if self.form != "subgradient":
            return
        for group in self.groups:
            weight = self.sr * math.sqrt(len(group))
            norms = _norms(group).clamp(min=torch.finfo(torch.float32).tiny)
            for one in group:
                if one.parameter.grad is not None:
                    one.parameter.grad[one.start : one.stop].add_(one.values / norms, alpha=weight)

    def after_step(self, optimizer: Optimizer) -> None:
        """Move every channel's scales towards 0 by learning rate times sr, where they stop: zeros are exact."""
        if self.form != "proximal":
            return
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for group in self.groups:
            norms = _norms(group).clamp(min=torch.finfo(torch.float32).tiny)
            for one in group:
                shrink = rates.get(id(one.parameter), 0.0) * self.sr * math.sqrt(len(group))
                one.values.mul_(torch.clamp(1 - shrink / norms, min=0.0))

    def value(self) -> float:
        """Return the penalty as it stands beside the detection loss."""
        total = sum(math.sqrt(len(group)) * float(_norms(group).sum()) for group in self.groups)
        return self.sr * total


def make_penalty(module: nn.Module, *, form: str, scope: str, sr: float) -> Penalty:
    """Return a penalty on a network's scales.

    Args:
        module: the network, whose parameters the penalty will change in place.
        form: `proximal` or `subgradient`.
        scope: `coupled` or `layer`.
        sr: its strength.
    """
    return Penalty(gammas.coupled(module) if scope == "coupled" else gammas.alone(module), form, sr)


def _norms(group: Group) -> torch.Tensor:
    """Return the length of every channel's vector of scales; shape (channels,)."""
    if len(group) == 1:
        return group[0].values.abs()
    return torch.stack([one.values for one in group]).norm(dim=0)

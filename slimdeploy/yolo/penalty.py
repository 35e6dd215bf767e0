"""The L1 penalty on BatchNorm scales that makes channels prunable (Network Slimming, Liu et al., ICCV 2017)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

SHARES_BELOW = (1e-1, 1e-2, 1e-3)
HISTOGRAM_EDGES = tuple(i / 20 for i in range(61))  # |gamma| from 0 to 3


class Penalty(Protocol):
    """Acts on the scales around one optimizer step."""

    def before_step(self, gammas: list[nn.Parameter]) -> None:
        """Change the gradients, after unscaling and clipping."""

    def after_step(self, gammas: list[nn.Parameter], optimizer: Optimizer) -> None:
        """Change the scales, after the step."""


class Subgradient:
    """The paper's form: sr * sign(gamma) joins the gradient."""

    def __init__(self, sr: float) -> None:
        self.sr = sr

    def before_step(self, gammas: list[nn.Parameter]) -> None:
        for gamma in gammas:
            if gamma.grad is not None:
                gamma.grad.add_(torch.sign(gamma.detach()), alpha=self.sr)

    def after_step(self, gammas: list[nn.Parameter], optimizer: Optimizer) -> None:
        """Leave the scales as the optimizer made them."""


class Proximal:
    """The proximal form: each scale moves towards 0 by lr * sr and stops there, so zeros are exact."""

    def __init__(self, sr: float) -> None:
        self.sr = sr

    def before_step(self, gammas: list[nn.Parameter]) -> None:
        """Leave the gradients alone."""

    def after_step(self, gammas: list[nn.Parameter], optimizer: Optimizer) -> None:
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for gamma in gammas:
            shrink = rates.get(id(gamma), 0.0) * self.sr
            values = gamma.detach()
            values.copy_(torch.sign(values) * torch.clamp(values.abs() - shrink, min=0.0))


def make_penalty(form: str, sr: float) -> Penalty:
    """Return the penalty of a SparsifyConfig."""
    return Proximal(sr) if form == "proximal" else Subgradient(sr)


def scales(module: nn.Module) -> list[nn.Parameter]:
    """Return the BatchNorm scales of a network, each of shape (channels,)."""
    return [m.weight for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def scale_shares(module: nn.Module) -> dict[str, float]:
    """Return the share of scales whose magnitude is below each of SHARES_BELOW."""
    gammas = torch.cat([g.detach().abs().flatten().float().cpu() for g in scales(module)])
    return {f"below_{edge:g}": float((gammas < edge).float().mean()) for edge in SHARES_BELOW}


def scale_histogram(module: nn.Module) -> list[int]:
    """Return counts of |gamma| in the bins of HISTOGRAM_EDGES; what lies above the last edge joins the last bin."""
    gammas = torch.cat([g.detach().abs().flatten().float().cpu() for g in scales(module)])
    counts = torch.histc(gammas.clamp(max=HISTOGRAM_EDGES[-1]), len(HISTOGRAM_EDGES) - 1, 0, HISTOGRAM_EDGES[-1])
    return [int(c) for c in counts]

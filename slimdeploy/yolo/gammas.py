"""BatchNorm scales (gammas): which of them go together, how small they are, and which layers still live."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from slimdeploy.yolo import coupling, prunable

SHARES_BELOW = (1e-1, 1e-2, 1e-3)
HISTOGRAM_EDGES = tuple(i / 20 for i in range(61))  # |gamma| from 0 to 3
LIVE_FROM = 1e-2  # a smaller scale adds nothing that later layers notice
FEWEST_LIVE = 8  # channels; in layers narrower than twice that, half of them


@dataclass(frozen=True, slots=True)
class Slice:
    """Some scales of one BatchNorm: `parameter[start:stop]`."""

    parameter: nn.Parameter
    start: int
    stop: int

    @property
    def values(self) -> torch.Tensor:
        """The scales as they are now, without a gradient; shape (channels,), a view."""
        return self.parameter.detach()[self.start : self.stop]


Group = tuple[Slice, ...]  # channel i of every slice is kept or removed with channel i of the others


def scales(module: nn.Module) -> list[nn.Parameter]:
    """Return the BatchNorm scales of a network, each of shape (channels,)."""
    return [m.weight for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def alone(module: nn.Module) -> list[Group]:
    """Return every BatchNorm's scales as a group of its own: the plain penalty, layer by layer."""
    return [(Slice(gamma, 0, len(gamma)),) for gamma in scales(module)]


def coupled(module: nn.Module) -> list[Group]:
    """Return the scales in the groups in which their channels will be removed.

    Args:
        module: a stock network, dense or pruned; it is not changed.

    Raises:
        UsageError: the network's channels cannot be coupled.
    """
    size = 2 * int(max(module.stride))  # which channels go together does not depend on the input's size
    groups = coupling.couple(prunable.split_copy(module), (size, size)).groups
    found = [tuple(_slice(module, layer) for layer in group.layers) for group in groups]
    inside = {id(one.parameter) for group in found for one in group}
    return found + [(Slice(gamma, 0, len(gamma)),) for gamma in scales(module) if id(gamma) not in inside]


def _slice(module: nn.Module, layer: str) -> Slice:
    """Return the scales of a layer by its stock name; `cv1[0]` and `cv1[1]` are the halves of one BatchNorm."""
    path, _, half = layer.removesuffix("]").partition("[")
    gamma = module.get_submodule(path).bn.weight
    if not half:
        return Slice(gamma, 0, len(gamma))
    middle = len(gamma) // 2
    return Slice(gamma, 0, middle) if half == "0" else Slice(gamma, middle, len(gamma))


def scale_shares(module: nn.Module) -> dict[str, float]:
    """Return the share of scales whose magnitude is below each of SHARES_BELOW."""
    gammas = _magnitudes(module)
    return {f"below_{edge:g}": float((gammas < edge).float().mean()) for edge in SHARES_BELOW}


def scale_histogram(module: nn.Module) -> list[int]:
    """Return counts of |gamma| in the bins of HISTOGRAM_EDGES; what lies above the last edge joins the last bin."""
    top = HISTOGRAM_EDGES[-1]
    counts = torch.histc(_magnitudes(module).clamp(max=top), len(HISTOGRAM_EDGES) - 1, 0, top)
    return [int(c) for c in counts]


def live_channels(module: nn.Module) -> dict[str, tuple[int, int]]:
    """Return, for every BatchNorm by its path, how many of its scales reach LIVE_FROM, and how many it has."""
    return {
        path: (int((norm.weight.detach().abs() >= LIVE_FROM).sum()), norm.num_features)
        for path, norm in module.named_modules()
        if isinstance(norm, nn.BatchNorm2d)
    }


def dying_layer(module: nn.Module) -> tuple[str, int, int] | None:
    """Return the first layer that has too few live channels to carry a signal, as (path, live, width), or None."""
    for path, (live, width) in live_channels(module).items():
        if live < min(FEWEST_LIVE, max(1, width // 2)):
            return path.removesuffix(".bn"), live, width
    return None


def _magnitudes(module: nn.Module) -> torch.Tensor:
    return torch.cat([g.detach().abs().flatten().float().cpu() for g in scales(module)])

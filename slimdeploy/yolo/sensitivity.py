"""What a network's outputs lose when some of its channels go, without cutting it.

A channel whose BatchNorm scale and shift are 0 is 0 behind the activation, as if it were gone. BatchNorm uses the
statistics of the images at hand meanwhile, as it will when training goes on: running ones no longer fit a narrower
network, and would make every trial look fatal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from slimdeploy.channels import Coupling
from slimdeploy.yolo.coupling import norms_of

POSITIVE = 0.25  # lowest score of an anchor that counts as a detection, as ultralytics' predictor has it


class Trials:
    """A network's outputs on a few images, and what they become without some channels.

    Args:
        module: the split network that `coupling` was found in; its weights are as before after every trial.
        coupling: its groups.
        images: RGB in 0..1; shape (B, 3, H, W).
    """

    def __init__(self, module: nn.Module, coupling: Coupling, images: torch.Tensor) -> None:
        self._module, self._images = module, images
        self._norms = norms_of(module)
        self._layers = {group.name: group.layers for group in coupling.groups}
        self._before = self._outputs()

    def without(self, gone: Mapping[str, Sequence[int]]) -> tuple[float, tuple[int, int]]:
        """Return the damage done by removing channels, and the positives before and after.

        Args:
            gone: positions that go, by the name of their group.
        """
        with self._silenced(gone):
            after = self._outputs()
        return damage(self._before, after), (positives(self._before), positives(after))

    @contextlib.contextmanager
    def _silenced(self, gone: Mapping[str, Sequence[int]]) -> Iterator[None]:
        kept = []
        for name, positions in gone.items():
            for layer in self._layers[name] if positions else ():
                for tensor in (self._norms[layer].weight, self._norms[layer].bias):
                    kept.append((tensor, tensor.detach().clone()))
                    tensor.data[list(positions)] = 0
        try:
            yield
        finally:
            for tensor, value in kept:
                tensor.data.copy_(value)

    def _outputs(self) -> torch.Tensor:
        with torch.no_grad(), _batch_statistics(self._module):
            outputs = self._module(self._images)
        return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


@contextlib.contextmanager
def _batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm use the statistics of its input, and leave its running ones as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [(norm.training, norm.track_running_stats, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    try:
        yield
    finally:
        for norm, (training, tracks, mean, variance) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracks
            norm.running_mean, norm.running_var = mean, variance


def damage(before: torch.Tensor, after: torch.Tensor) -> float:
    """Return how far scores and boxes moved: 0 not at all, 1 when every score is gone, more when false ones appear.

    Args:
        before: raw head: boxes as centre and size, then scores; shape (B, 4 + nc, anchors).
        after: the same of the narrowed network.
    """
    scores, others = before[:, 4:], after[:, 4:]
    moved = float(torch.linalg.vector_norm(others - scores) / torch.linalg.vector_norm(scores).clamp(min=1e-12))
    weight = scores.amax(1)  # (B, anchors): boxes matter where there is something
    apart = float((weight * (1 - overlap(before[:, :4], after[:, :4]))).sum() / weight.sum().clamp(min=1e-12))
    return moved + apart


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the IoU of boxes anchor by anchor; both (B, 4, anchors) as centre and size, the result (B, anchors)."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    shared = (high - low).clamp(min=0).prod(1)
    joint = first[:, 2:].prod(1) + second[:, 2:].prod(1) - shared
    return shared / joint.clamp(min=1e-12)


def positives(outputs: torch.Tensor) -> int:
    """Return how many anchors of a raw head hold a score that counts."""
    return int((outputs[:, 4:].amax(1) > POSITIVE).sum())

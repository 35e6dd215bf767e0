"""What a network's outputs lose when some of its channels go, without cutting it.

A channel whose BatchNorm scale and shift are 0 is 0 behind the activation, as if it were gone. BatchNorm uses the
statistics of the images at hand meanwhile, as it will when training goes on: running ones no longer fit a narrower
network, and would make every trial look fatal. Where weights are fitted after the cut, running statistics are, too.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from slimdeploy.backends.protocol import OUTPUT
from slimdeploy.channels import Coupling
from slimdeploy.yolo import heads
from slimdeploy.yolo.coupling import convolutions_of, norms_of
from slimdeploy.yolo.moments import Covariances, columns_of, compensated, matrix_of, set_matrix

TINY = 1e-12  # in place of 0 where something is divided by it
POSITIVE = 0.25  # lowest score of an anchor that counts as a detection, as ultralytics' predictor has it

Outputs = Mapping[str, torch.Tensor]


class Trials:
    """A network's outputs on a few images, and what they become without some channels.

    Args:
        module: the split network that `coupling` was found in; its weights are as before after every trial.
        coupling: its groups.
        images: RGB in 0..1; shape (B, 3, H, W).
        covariances: of what layers read, where the weights that stay shall make up for what goes, as they will when
            they are fitted anew after the cut.
    """

    def __init__(
        self, module: nn.Module, coupling: Coupling, images: torch.Tensor, covariances: Covariances | None = None
    ) -> None:
        self._module, self._images = module, images
        self._norms, self._convs, self._classes = norms_of(module), convolutions_of(module), len(module.names)
        self._groups = {group.name: group for group in coupling.groups}
        self._covariances = covariances or {}
        self._before = self._outputs()

    def without(self, gone: Mapping[str, Sequence[int]]) -> tuple[float, tuple[int, int]]:
        """Return the damage done by removing channels, and the positives before and after.

        Args:
            gone: positions that go, by the name of their group.
        """
        with self._silenced(gone):
            after = self._outputs()
        before, classes = self._before, self._classes
        return damage(before, after, classes), (positives(before, classes), positives(after, classes))

    def beside(self, other: nn.Module) -> tuple[float, tuple[int, int]]:
        """Return how another network's outputs differ, and the positives of both, each with its own statistics.

        Args:
            other: a network that was cut and fitted, in eval mode: what it holds is what it will run with.
        """
        with torch.no_grad():
            before, after = (heads.named_outputs(one(self._images)) for one in (self._module, other))
        classes = self._classes
        return damage(before, after, classes), (positives(before, classes), positives(after, classes))

    @contextlib.contextmanager
    def _silenced(self, gone: Mapping[str, Sequence[int]]) -> Iterator[None]:
        kept = []
        for layer, columns in self._unread(gone).items():
            conv = self._convs[layer]
            kept.append((conv.weight, conv.weight.detach().clone()))
            set_matrix(conv, compensated(matrix_of(conv), columns, self._covariances[layer]))
        for name, positions in gone.items():
            for layer in self._groups[name].layers if positions else ():
                for tensor in self._scales(layer):
                    kept.append((tensor, tensor.detach().clone()))
                    tensor.data[list(positions)] = 0
        try:
            yield
        finally:
            for tensor, value in reversed(kept):
                tensor.data.copy_(value)

    def _unread(self, gone: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
        """Return the columns that layers read no longer, for those that can make up for it."""
        channels: dict[str, list[int]] = defaultdict(list)
        for name, positions in gone.items():
            for reader in self._groups[name].readers if positions else ():
                channels[reader.layer] += [offset + position for offset in reader.offsets for position in positions]
        return {
            layer: columns_of(self._convs[layer], read).flatten()
            for layer, read in channels.items()
            if layer in self._covariances
        }

    def _scales(self, layer: str) -> tuple[torch.Tensor, ...]:
        """Return what scales and shifts a layer's outputs, the output channels first."""
        norm, conv = self._norms[layer], self._convs[layer]
        if norm is not None:
            return norm.weight, norm.bias
        weight = conv.weight.transpose(0, 1)  # a transposed convolution, whose inputs come first
        return (weight,) if conv.bias is None else (weight, conv.bias)

    def _outputs(self) -> Outputs:
        with torch.no_grad(), _batch_statistics(self._module):
            return heads.named_outputs(self._module(self._images))


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


def damage(before: Outputs, after: Outputs, classes: int) -> float:
    """Return how far outputs moved: 0 not at all; each part of them adds about 1 when it is lost.

    The parts are scores, boxes, and what the task adds: angles, keypoints, mask coefficients, prototypes.

    Args:
        before: raw outputs by name: boxes as centre and size, then scores, then the rest, (B, 4 + nc + rest, anchors);
            or a classifier's probabilities, (B, nc).
        after: the same of the narrowed network.
        classes: nc.
    """
    first, second = before[OUTPUT], after[OUTPUT]
    moved = sum(_relative(before[name], after[name]) for name in before if name != OUTPUT)
    if first.dim() == 2:
        return moved + _relative(first, second)
    before_scores, after_scores = (heads.class_scores(made, classes) for made in (first, second))
    weight = before_scores.amax(1)  # (B, anchors): the rest matters where there is something
    apart = (weight * (1 - overlap(first[:, :4], second[:, :4]))).sum() / weight.sum().clamp(min=TINY)
    moved += _relative(before_scores, after_scores) + float(apart)
    rest = slice(4 + classes, None)
    if first[:, rest].shape[1]:
        moved += _relative(weight[:, None] * first[:, rest], weight[:, None] * second[:, rest])
    return moved


def _relative(before: torch.Tensor, after: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before).clamp(min=TINY))


def overlap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the IoU of boxes anchor by anchor; both (B, 4, anchors) as centre and size, the result (B, anchors)."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    shared = (high - low).clamp(min=0).prod(1)
    joint = first[:, 2:].prod(1) + second[:, 2:].prod(1) - shared
    return shared / joint.clamp(min=TINY)


def positives(outputs: Outputs, classes: int) -> int:
    """Return how many anchors of a raw head, or images of a classifier, hold a score that counts."""
    return int((heads.class_scores(outputs[OUTPUT], classes).amax(1) > POSITIVE).sum())

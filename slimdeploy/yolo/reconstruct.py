"""Fit the weights that stay anew, layer by layer, so that a cut network gives what the dense one gave.

A cut takes a part of every layer's input, and what the lost channels carried is missing behind it. Most of it can be
told from the channels that are left. So each layer in turn, first to last, gets the weights and the shift which on
some images come nearest to the dense layer's own outputs, from the input that it really has: what the layers before
it, already fitted, make. That is linear least squares, without labels and without gradients. Half of the places that
it is made at are drawn where the dense network finds something: what a layer gives there is what the network is for,
and of an aerial picture it is next to nothing.

A fit without bounds may hold its layer together by large weights that cancel each other, and then a network that runs
in half precision finds something else. So the squares are least for inputs that all carry a small error of their own,
in proportion to their size, which makes such weights dear. The error that a fit assumes grows until the layer passes on
no more of it than the whole layer did.

Depthwise and transposed convolutions stay as they are: what they read is fitted already. So do layers that training
alone runs.

Source: the reconstruction step of He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017,
here with all the channels that a dependency graph couples, and of every layer's own input after the cut. That noise on
the inputs is a penalty on the weights: Bishop, "Training with Noise is Equivalent to Tikhonov Regularization", Neural
Computation, 1995.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from slimdeploy.yolo.coupling import convolutions_of, norms_of
from slimdeploy.yolo.moments import Moments, can_be_fitted, matrix_of, ridged, set_matrix
from slimdeploy.yolo.places import at_objects, best_scores, evenly, patches, pick

ERRORS = (0.02, 0.05, 0.1, 0.2, 0.4)  # of each input, as a share of its root mean square; the first that is enough
CONSTANT = 1e-9  # share of the mean square of a layer's outputs below which their variance is rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """How far a layer's outputs lie from those of the dense network.

    Attributes:
        layer: its name.
        before: share of the variance of its outputs that its old weights miss, behind layers that are fitted already.
        after: the same with its new weights; of the images that they were fitted on.
    """

    layer: str
    before: float
    after: float


def reconstruct(
    cut: nn.Module, dense: nn.Module, kept: Mapping[str, Sequence[int]], images: torch.Tensor, *, batch: int = 8
) -> tuple[Refit, ...]:
    """Fit the weights of a cut network, in place.

    Args:
        cut: a cut network in split form, in eval mode.
        dense: the split network that it was cut from; it is not changed.
        kept: positions of the outputs that stayed, by layer; of a layer that is not named, all.
        images: RGB in 0..1; shape (N, 3, H, W).
        batch: images that go through at once.

    Returns:
        Every layer that was fitted, in the order in which they run.
    """
    batches = images.split(batch)
    walks = [_Walk(module, batches) for module in (cut, dense)]
    pairs = _Pairs(cut, dense, kept, [best_scores(dense, part) for part in batches], count=len(images))
    done: list[Refit] = []
    with torch.no_grad():
        for ours, theirs in zip(*(walk.blocks() for walk in walks), strict=True):
            done += pairs.fit_block(ours, theirs)
    return tuple(done)


Block = Sequence[Callable[[], Any]]  # one block of a network, to be run on each batch


class _Walk:
    """A network run block by block on some batches, so that a block can run again without what lies before it."""

    def __init__(self, module: nn.Module, batches: Sequence[torch.Tensor]) -> None:
        self._module, self._save = module, set(module.save)
        self._states: list[dict[int, Any]] = [{-1: images} for images in batches]

    def blocks(self) -> Iterator[Block]:
        """Give each block as something that runs it; what it makes last is what the blocks behind it read."""
        for block in self._module.model:
            yield [partial(_run, block, state) for state in self._states]
            for state in self._states:
                state[-1] = _run(block, state)
                if block.i in self._save:
                    state[block.i] = state[-1]


def _run(block: Any, state: Mapping[int, Any]) -> Any:
    return block(state[block.f] if isinstance(block.f, int) else [state[number] for number in block.f])


class _Stop(Exception):
    """A layer's input is known, and what lies behind it need not run."""


class _Pairs:
    """The layers of a cut network beside those of the dense one.

    Args:
        cut: the cut network.
        dense: the dense one.
        kept: positions of the outputs that stayed, by layer.
        scores: what the dense one finds, batch by batch, as `best_scores` returns it.
        count: images over all batches.
    """

    def __init__(
        self,
        cut: nn.Module,
        dense: nn.Module,
        kept: Mapping[str, Sequence[int]],
        scores: Sequence[torch.Tensor | None],
        *,
        count: int,
    ) -> None:
        self._cut, self._norms = convolutions_of(cut), norms_of(cut)
        self._dense = {k: v for k, v in can_be_fitted(dense).items() if not isinstance(v, nn.ConvTranspose2d)}
        self._kept, self._scores, self._count = kept, scores, count

    def fit_block(self, cut: Block, dense: Block) -> Iterator[Refit]:
        """Fit every layer that a block runs, in the order in which it does."""
        for name, pairs in self._outputs(dense).items():
            fit = _Fit(self._cut[name], inputs=_inputs_of(self._dense[name]))
            for inputs, (_, outputs) in zip(self._inputs(cut, name, pairs), pairs, strict=True):
                fit.add(inputs, outputs)
            before, after = fit.apply(self._norms[name])
            yield Refit(layer=name, before=before, after=after)

    def _outputs(self, dense: Block) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Return the places that each layer is fitted at, and what the dense network gives there, batch by batch."""
        found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)

        def note(name: str, output: torch.Tensor) -> None:
            maps = output if output.dim() == 4 else output[:, :, None, None]
            at = self._places(name, maps, len(found[name]))
            found[name].append((at, pick(maps.flatten(2)[:, self._rows(name)], at)))

        hooks = [
            layer.register_forward_hook(lambda _layer, _inputs, output, name=name: note(name, output))
            for name, layer in self._dense.items()
        ]
        try:
            for run in dense:
                run()
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _places(self, name: str, maps: torch.Tensor, batch: int) -> torch.Tensor:
        layer, scores, size = self._cut[name], self._scores[batch], (maps.shape[2], maps.shape[3])
        if scores is None:
            return evenly(layer, size, self._count)
        return at_objects(layer, scores, size, self._count, batch)

    def _rows(self, name: str) -> torch.Tensor:
        return torch.tensor(self._kept.get(name, range(self._dense[name].weight.shape[0])))

    def _inputs(
        self, cut: Block, name: str, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[torch.Tensor]:
        """Give what a layer reads at its places, (B * places, inputs), batch by batch."""
        found: list[torch.Tensor] = []

        def note(layer: Any, inputs: tuple[torch.Tensor]) -> None:
            found.append(inputs[0])
            raise _Stop

        hook = self._cut[name].register_forward_pre_hook(note)
        try:
            for run, (at, _) in zip(cut, pairs, strict=True):
                with contextlib.suppress(_Stop):
                    run()
                yield patches(self._cut[name], found.pop(), at)
        finally:
            hook.remove()


def _inputs_of(layer: Any) -> int:
    return int(matrix_of(layer).shape[1])


class _Fit:
    """Least squares for one layer.

    Args:
        layer: the layer.
        inputs: how many inputs its matrix had before the cut.
    """

    def __init__(self, layer: Any, *, inputs: int) -> None:
        self._layer = layer
        self._old = matrix_of(layer)
        self._lost = inputs / self._old.shape[1]
        self._moments = Moments(sum(self._old.shape))

    def add(self, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add samples: what the layer reads, (n, inputs), and what it should give, (n, outputs)."""
        self._moments.add(torch.cat((inputs, outputs), 1))

    def apply(self, norm: nn.BatchNorm2d | None) -> tuple[float, float]:
        """Give the layer its new weights, and the shift to its bias or to the BatchNorm behind it.

        Returns:
            The share of the outputs' variance that is missed before and after.
        """
        inputs = self._old.shape[1]
        mean, covariance = self._moments.mean, self._moments.covariance
        among, across = covariance[:inputs, :inputs], covariance[:inputs, inputs:]
        variance = covariance.diagonal()[inputs:]
        if variance.sum() <= CONSTANT * mean[inputs:].square().sum():
            return 0.0, 0.0  # the outputs do not vary, so nothing shows what weights they want
        new = self._fitted(among, across, among.diagonal() + mean[:inputs].square())
        set_matrix(self._layer, new)
        self._shift(norm, mean[inputs:] - new @ mean[:inputs])
        return _missed(self._old, among, across, variance), _missed(new, among, across, variance)

    def _fitted(self, among: torch.Tensor, across: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        """Return the weights for the least error of the inputs with which they pass on no more than the whole layer.

        Args:
            among: covariance of the inputs.
            across: covariance of inputs and outputs.
            squares: mean square of each input.
        """
        most = self._lost * _passed_on(self._old, squares)  # the lost inputs count as much as those that are left
        new = self._old
        for error in ERRORS:
            noisy = among + torch.diag(error**2 * squares)
            new = self._old + torch.linalg.solve(ridged(noisy), across - noisy @ self._old.T).T
            if _passed_on(new, squares) <= most:
                break
        return new

    def _shift(self, norm: nn.BatchNorm2d | None, shift: torch.Tensor) -> None:
        if self._layer.bias is not None:
            self._layer.bias.data.copy_(shift)
        elif norm is not None:
            norm.running_mean.sub_(shift)


def _passed_on(weight: torch.Tensor, squares: torch.Tensor) -> float:
    """Return the mean square of what independent errors of the inputs, in proportion to them, do to the outputs."""
    return float((weight.square() @ squares).sum())


def _missed(weight: torch.Tensor, among: torch.Tensor, across: torch.Tensor, variance: torch.Tensor) -> float:
    """Return the share of the outputs' variance that a weight misses, over all channels together."""
    left = variance - 2 * (weight * across.T).sum(1) + ((weight @ among) * weight).sum(1)
    return float(left.clamp(min=0).sum() / variance.sum().clamp(min=1e-12))

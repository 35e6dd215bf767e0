"""Check that a network can do its work: its weights are numbers, it takes colour images, and its layers fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimdeploy.backends.protocol import OUTPUT
from slimdeploy.board.text import brief
from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import heads, macs

CHANNELS = 3
_STOCK = ("torch.nn.", "ultralytics.nn.", "torchvision.transforms.")  # layers of others may need numbers to run
_LARGEST_OUTPUT = 2**28  # elements of one layer's output, for the small image that the layers are tried with
_FOREIGN = (
    RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError, ImportError,
)  # fmt: skip


def require_sound(module: nn.Module, path: Path) -> None:
    """Raise CheckpointError if a network cannot be run, or would give no numbers.

    Args:
        module: whose fields are checked already.
        path: its file, for messages.
    """
    _require_numbers(module, path)
    _require_colours(module, path)
    if heads.known(module) and all(type(layer).__module__.startswith(_STOCK) for layer in module.modules()):
        _require_fitting(module, path)


def _require_numbers(module: nn.Module, path: Path) -> None:
    for name, values in module.state_dict().items():
        if values.is_floating_point() and not torch.isfinite(values).all():
            layer, _, field = name.rpartition(".")
            raise CheckpointError(
                f"{path} has a {field} in the layer {layer} that is not finite (NaN or infinity)",
                wanted="weights that are all numbers",
                do="take an earlier checkpoint of that training, or train again with a smaller learning rate",
            )


def _require_colours(module: nn.Module, path: Path) -> None:
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and (first.weight.shape[1], first.in_channels) != (CHANNELS, CHANNELS):
        channels = first.weight.shape[1]
        raise CheckpointError(
            f"{path} takes images of {channels} channel{'s' * (channels != 1)}",
            wanted=f"a network for colour images, with {CHANNELS} channels",
            do="train it again on colour images: everything here feeds three channels",
        )


def _require_fitting(module: nn.Module, path: Path) -> None:
    """Run the shapes of a small image through a network, without its numbers."""
    side = max(64, 2 * int(max(module.stride)))
    head = module.model[-1]
    try:
        expected = heads.rows(head)
        bones = macs.skeleton(module)
        heads.keep_inferring_branch(bones)
        for layer in bones.modules():
            layer.register_forward_hook(_require_small)
            layer.register_forward_hook(_require_filled)
        with torch.no_grad():
            output = bones(macs.example(bones, (side, side)))
        rows = heads.named_outputs(output)[OUTPUT].shape[1]
    except _FOREIGN as error:
        raise CheckpointError(
            f"{path} holds layers that do not fit each other: {_reason(error)}",
            wanted="a network that runs",
            do="train it again with the installed ultralytics",
        ) from error
    if rows != expected:
        raise CheckpointError(
            f"{path} gives {rows} values an anchor", wanted=f"{expected}, for its task and classes", do="train it again"
        )


def count_macs(module: nn.Module, imgsz: tuple[int, int], path: Path) -> int:
    """Return the multiply-accumulates of a network for one image; see `macs.count_macs`.

    Raises:
        CheckpointError: it does not run at that size.
    """
    try:
        return macs.count_macs(module, imgsz)
    except _FOREIGN as error:
        raise CheckpointError(
            f"{path} does not run on images of {imgsz[0]}x{imgsz[1]} pixels: {_reason(error)}",
            wanted="a network that runs",
            do="give another --imgsz, or train it again with the installed ultralytics",
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _require_filled(layer: nn.Module, inputs: Any, output: Any) -> None:
    """Require the numbers that a layer's own fields announce, where it is BatchNorm or a convolution."""
    if isinstance(layer, nn.BatchNorm2d):
        held = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        wanted = (inputs[0].shape[1],)
        if any(values is None or tuple(values.shape) != wanted for values in held) or layer.num_features != wanted[0]:
            raise ValueError(f"a BatchNorm without {wanted[0]} scales, shifts, means and variances")
        if type(layer.eps) is not float or not 0 < layer.eps < 1:
            raise ValueError(f"a BatchNorm with {brief(layer.eps)} for its eps")
    if isinstance(layer, nn.Conv2d):
        announced = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        if tuple(layer.weight.shape) != announced:
            raise ValueError(f"a convolution of {tuple(layer.weight.shape)} that announces {brief(announced)}")


def _require_small(layer: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, torch.Tensor) and output.numel() > _LARGEST_OUTPUT:
        raise ValueError(f"a {type(layer).__name__} gives {output.numel():,} values for a small image")

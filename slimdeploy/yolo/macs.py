"""Count multiply-accumulates by running a network's shapes through it, without a weight or a multiplication."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

COUNTED = (nn.Conv2d, nn.Linear)


def count_macs(module: nn.Module, imgsz: tuple[int, int]) -> int:
    """Return the multiply-accumulates that convolutions and linear layers need for one image.

    Args:
        module: the network; it is not changed.
        imgsz: input height and width, in pixels.
    """
    positions = output_positions(skeleton(module), imgsz)
    return sum(count * module.get_submodule(path).weight.numel() for path, count in positions.items())


def skeleton(module: nn.Module) -> nn.Module:
    """Return a copy of a network, in eval mode, whose tensors have shapes and no numbers (torch's meta device)."""
    memo: dict[int, Any] = {id(b): b.to("meta") for b in module.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta")) for p in module.parameters()}
    bones = copy.deepcopy(module, memo).eval()
    for part in bones.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.forward = _same_shape
        elif hasattr(part, "anchors"):
            part.shape = None  # a head that has run keeps anchors; make it compute them again
    return bones


def _same_shape(x: torch.Tensor) -> torch.Tensor:
    """Stand in for BatchNorm, whose form for the meta device runs in Python and takes seconds for a network."""
    return x.clone()  # a node of its own in a traced graph


def output_positions(bones: nn.Module, imgsz: tuple[int, int]) -> dict[str, int]:
    """Return, for every convolution and linear layer that runs, the outputs of one channel for one image.

    Args:
        bones: what `skeleton` gave.
        imgsz: input height and width, in pixels.
    """
    counts: dict[str, int] = {}

    def note(path: str, layer: nn.Module, output: torch.Tensor) -> None:
        counts[path] = counts.get(path, 0) + output.numel() // layer.weight.shape[0]

    hooks = [
        layer.register_forward_hook(lambda layer, _, output, path=path: note(path, layer, output))
        for path, layer in bones.named_modules()
        if isinstance(layer, COUNTED)
    ]
    with torch.no_grad():
        bones(example(bones, imgsz))
    for hook in hooks:
        hook.remove()
    return counts


def example(bones: nn.Module, imgsz: tuple[int, int]) -> torch.Tensor:
    """Return an input without numbers for a skeleton; shape (1, channels, height, width)."""
    first = next(layer for layer in bones.modules() if isinstance(layer, nn.Conv2d))
    return torch.zeros(1, first.in_channels, *imgsz, device="meta", dtype=first.weight.dtype)

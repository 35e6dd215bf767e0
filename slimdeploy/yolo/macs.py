"""Count multiply-accumulates by running a network's shapes through it, without a weight or a multiplication."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Attention

from slimdeploy.yolo import heads

COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What one image asks of a network as it infers.

    Attributes:
        positions: for every convolution and linear layer, by its path, how often each of its weights is used; a layer
            that training alone needs is not in it.
        products: multiply-accumulates between activations, in attention.
    """

    positions: Mapping[str, int]
    products: int


def count_macs(module: nn.Module, imgsz: tuple[int, int]) -> int:
    """Return the multiply-accumulates of convolutions, linear layers and attention for one image.

    Of a YOLO26 head, that branch is counted which infers, and not the one that training adds.

    Args:
        module: the network; it is not changed.
        imgsz: input height and width, in pixels.
    """
    found = arithmetic(skeleton(module), imgsz)
    weights: dict[str, int] = {path: module.get_submodule(path).weight.numel() for path in found.positions}
    return found.products + sum(count * weights[path] for path, count in found.positions.items())


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


def arithmetic(bones: nn.Module, imgsz: tuple[int, int]) -> Arithmetic:
    """Count by running a network's shapes through it.

    Args:
        bones: what `skeleton` gave; it is not changed.
        imgsz: input height and width, in pixels.
    """
    network = copy.deepcopy(bones)
    paths = {id(layer): path for path, layer in network.named_modules()}  # the names before a branch is left out
    heads.keep_inferring_branch(network)
    positions: dict[str, int] = defaultdict(int)
    products = [0]

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(layer, Attention):
            places = inputs[0].shape[-2] * inputs[0].shape[-1]
            products[0] += places**2 * layer.num_heads * (layer.key_dim + layer.head_dim)
        else:
            wide = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            positions[paths[id(layer)]] += wide.numel() // layer.weight.shape[0]

    for layer in network.modules():
        if isinstance(layer, (*COUNTED, Attention)):
            layer.register_forward_hook(note)
    with torch.no_grad():
        network(example(network, imgsz))
    return Arithmetic(positions=dict(positions), products=products[0])


def example(bones: nn.Module, imgsz: tuple[int, int]) -> torch.Tensor:
    """Return an input without numbers for a skeleton; shape (1, channels, height, width)."""
    first = next(layer for layer in bones.modules() if isinstance(layer, nn.Conv2d))
    return torch.zeros(1, first.in_channels, *imgsz, device="meta", dtype=first.weight.dtype)

"""At which places of its map a layer is looked at, and what it reads there.

Objects cover little of a picture, and in an aerial one next to nothing. Places spread evenly show a layer hardly
anything but ground; where it matters what it gives at an object, half of them are drawn where a network finds some.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from slimdeploy.backends.protocol import OUTPUT
from slimdeploy.yolo import heads

SAMPLES = 12_800  # places that a layer is looked at on at least, where its maps have as many
SAMPLES_AN_INPUT = 8  # places for each weight of an output channel, likewise
AT_OBJECTS = 0.5  # share of the places that is drawn by score
FAINT = 1e-6  # added to every score, so that no place is out of the question

Size = tuple[int, int]


def evenly(layer: Any, size: Size, images: int) -> torch.Tensor:
    """Return places spread over a map at random, the same of every image; shape (places,).

    Args:
        layer: the layer.
        size: height and width of its map.
        images: how many there are, over all of which enough places must come together.
    """
    positions = size[0] * size[1]
    generator = torch.Generator().manual_seed(positions)
    return torch.randperm(positions, generator=generator)[: _wanted(layer, images)]


def at_objects(layer: Any, scores: torch.Tensor, size: Size, images: int, batch: int) -> torch.Tensor:
    """Return places of each image, half of them spread over the map and half drawn by score; shape (B, places).

    Args:
        layer: the layer.
        scores: of some images, as `best_scores` returns them; (B, 1, h, w).
        size: height and width of the layer's map.
        images: how many there are in all.
        batch: number of the batch that these are, so that each draws other places.
    """
    spread = functional.adaptive_max_pool2d(scores, size).flatten(1) + FAINT  # (B, positions); enlarges, too
    positions = spread.shape[1]
    chances = (1 - AT_OBJECTS) / positions + AT_OBJECTS * spread / spread.sum(1, keepdim=True)
    generator = torch.Generator().manual_seed(positions + batch)
    return torch.multinomial(chances, min(_wanted(layer, images), positions), generator=generator)


def _wanted(layer: Any, images: int) -> int:
    weight = layer.weight
    inputs = weight.shape[0] if isinstance(layer, nn.ConvTranspose2d) else weight[0].numel()
    return int(-(-max(SAMPLES, SAMPLES_AN_INPUT * inputs) // images))


def best_scores(module: nn.Module, images: torch.Tensor) -> torch.Tensor | None:
    """Return the best score of any class at each place of the finest grid and around it; None of a classifier.

    Args:
        module: a network in eval mode.
        images: RGB in 0..1; shape (B, 3, H, W).

    Returns:
        Shape (B, 1, H / stride, W / stride), of the smallest stride.
    """
    with torch.no_grad():
        rows = heads.named_outputs(module(images))[OUTPUT]
    if rows.dim() == 2:
        return None
    best = heads.class_scores(rows, len(module.names)).amax(1)  # (B, anchors)
    sizes = [(images.shape[2] // stride, images.shape[3] // stride) for stride in module.stride.int().tolist()]
    levels = best.split([height * width for height, width in sizes], dim=1)
    maps = [level.unflatten(1, (1, *size)) for level, size in zip(levels, sizes, strict=True)]
    finest = max(sizes)
    whole = torch.stack([functional.interpolate(level, size=finest) for level in maps]).amax(0)
    return functional.max_pool2d(whole, 3, stride=1, padding=1)


def map_size(layer: Any, inputs: torch.Tensor) -> Size:
    """Return height and width of the map that a layer's matrix is used at, each position once."""
    if inputs.dim() == 2:
        return 1, 1
    if not isinstance(layer, nn.Conv2d):
        return inputs.shape[2], inputs.shape[3]
    height, width = (
        (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for side, pad, dilation, kernel, stride in zip(
            inputs.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    )
    return height, width


def patches(layer: Any, inputs: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return what a layer's matrix reads at some places, image by image; shape (B * places, inputs).

    Args:
        layer: the layer.
        inputs: (B, C, H, W), or (B, C) of a linear layer.
        at: places of all images, (places,), or of each, (B, places).
    """
    if inputs.dim() == 2:
        return inputs
    if not isinstance(layer, nn.Conv2d):
        return pick(inputs.flatten(2), at)
    (down, right), (dy, dx), (rows, columns) = layer.padding, layer.dilation, layer.kernel_size
    width = map_size(layer, inputs)[1]
    padded = functional.pad(inputs, (right, right, down, down))
    corner = at // width * layer.stride[0] * padded.shape[3] + at % width * layer.stride[1]
    flat = padded.flatten(2)
    parts = [pick(flat, corner + i * dy * padded.shape[3] + j * dx) for i in range(rows) for j in range(columns)]
    return torch.stack(parts, 2).flatten(1)


def pick(maps: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the values at some places, image by image; shape (B * places, C).

    Args:
        maps: (B, C, positions).
        at: places of all images, (places,), or of each, (B, places).
    """
    if at.dim() == 1:
        return maps[:, :, at].transpose(1, 2).flatten(0, 1)
    wanted = at[:, None].expand(-1, maps.shape[1], -1)  # (B, C, places)
    return maps.gather(2, wanted).transpose(1, 2).flatten(0, 1)

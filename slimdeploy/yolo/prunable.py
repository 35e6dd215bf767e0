"""A stock C2f in a form that a pruner can trace, and back.

A C2f chunks the output of its first convolution in two, which torch-pruning cannot follow. Here that convolution
becomes two, whose outputs are the same; afterwards they are joined, so that the network is a stock one again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn
from ultralytics.nn.modules import DFL, SPPF, Bottleneck, C2f, Concat, Conv, Detect
from ultralytics.nn.tasks import DetectionModel

from slimdeploy.errors import StageFailed, UsageError

# What YOLOv8 detectors are made of. Anything else (attention above all) is refused before torch-pruning traces it,
# since there it can run for ever or couple wrongly.
_KNOWN_BLOCKS = (
    DetectionModel, Conv, C2f, Bottleneck, SPPF, Concat, Detect, DFL, nn.Sequential, nn.ModuleList, nn.Conv2d,
    nn.BatchNorm2d, nn.MaxPool2d, nn.Upsample, nn.Identity, nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.Hardswish,
)  # fmt: skip


class SplitC2f(nn.Module):  # type: ignore[misc]
    """A C2f whose first convolution is two: not a C2f, since the exporter swaps the forward of each of those.

    Args:
        stock: the C2f, whose other parts are shared and not copied.
    """

    def __init__(self, stock: nn.Module) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            (_rows(stock.cv1, slice(0, stock.c)), _rows(stock.cv1, slice(stock.c, 2 * stock.c)))
        )
        self.m = stock.m
        self.cv2 = stock.cv2
        _carry_attributes(stock, self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the stock C2f returns; `x` has shape (B, inputs, H, W)."""
        parts = [half(x) for half in self.halves]
        for bottleneck in self.m:
            parts.append(bottleneck(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


def require_prunable(module: nn.Module) -> None:
    """Raise UsageError unless this is a YOLOv8 detector, stock or split, whose BatchNorm is not folded away."""
    head = module.model[-1]
    if module.task != "detect" or type(head) is not Detect or head.end2end:
        raise UsageError(f"a network for the task {module.task!r}", wanted="a YOLOv8 detector")
    unknown = sorted({type(m).__name__ for m in module.modules() if type(m) not in (*_KNOWN_BLOCKS, SplitC2f)})
    if unknown:
        raise UsageError(
            f"a network with the blocks {', '.join(unknown)}, whose channels cannot be coupled safely",
            wanted="a YOLOv8 detector",
        )
    for path, block in module.named_modules():
        if isinstance(block, Conv) and not isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            raise UsageError(f"{path} has no BatchNorm", wanted="a checkpoint whose BatchNorm is not folded away")
        if isinstance(block, nn.Conv2d) and block.groups != 1:
            raise UsageError(f"{path} is a grouped convolution", wanted="a YOLOv8 detector")


def split(module: nn.Module) -> None:
    """Replace every stock C2f of a network, in place, by its split form; subclasses of C2f stay."""
    for path, block in list(module.named_modules()):
        if type(block) is C2f:
            module.set_submodule(path, SplitC2f(block))


def join(module: nn.Module) -> None:
    """Replace every split form of a network, in place, by a stock C2f of its present widths.

    Raises:
        StageFailed: two halves differ in width, which a stock C2f cannot hold.
    """
    for path, block in list(module.named_modules()):
        if isinstance(block, SplitC2f):
            module.set_submodule(path, _stock(block))


def _stock(block: SplitC2f) -> nn.Module:
    widths = [half.conv.out_channels for half in block.halves]
    if widths[0] != widths[1]:
        raise StageFailed(f"the halves of a C2f are {widths[0]} and {widths[1]} wide", do="report this as a bug")
    stock = C2f(1, 2)
    _carry_attributes(block, stock)
    stock.cv1, stock.m, stock.cv2, stock.c = _stacked(*block.halves), block.m, block.cv2, widths[0]
    stock.np = sum(p.numel() for p in stock.parameters())  # ultralytics prints it
    return stock


def _rows(conv: nn.Module, rows: slice) -> nn.Module:
    """Return a Conv block that computes these output channels of `conv` alone."""
    return _with_rows(conv, {name: t[rows] if t.dim() else t for name, t in conv.state_dict().items()})


def _stacked(first: nn.Module, second: nn.Module) -> nn.Module:
    """Return one Conv block whose outputs are those of the first, then those of the second."""
    others = second.state_dict()
    tensors = {name: torch.cat((t, others[name])) if t.dim() else t for name, t in first.state_dict().items()}
    return _with_rows(first, tensors)


def _with_rows(conv: nn.Module, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a Conv block with other tensors, whose first dimension is its output channels."""
    made = copy.deepcopy(conv, {id(conv.act): conv.act})  # ultralytics shares one activation between all blocks
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        part = made.get_submodule(owner)
        setattr(part, leaf, nn.Parameter(tensor.clone()) if leaf in part._parameters else tensor.clone())
    made.conv.out_channels = made.bn.num_features = made.conv.weight.shape[0]
    return made


def _carry_attributes(old: nn.Module, new: nn.Module) -> None:
    """Carry what ultralytics' parser notes on a block (its place, its inputs, its name)."""
    known = nn.Module().__dict__.keys() - {"training"}
    for name, value in old.__dict__.items():
        if name not in known:
            new.__dict__[name] = value

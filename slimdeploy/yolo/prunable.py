"""Stock blocks in a form that a pruner can trace, and back.

Some blocks chunk the output of their first convolution in two, which torch-pruning cannot follow. Here that
convolution becomes two, whose outputs are the same; afterwards they are joined, so that the network is a stock one
again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from ultralytics.nn.modules import C2, C2PSA, DFL, SPPF, Attention, Bottleneck, C2f, C3k2, Concat, Conv, DWConv, Proto
from ultralytics.nn.modules.block import C3k, Proto26, PSABlock, RealNVP
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, OBBModel, PoseModel, SegmentationModel

from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.yolo import heads

PROMISED = "YOLOv8, YOLO11 or YOLO26 for detect, segment, pose, obb or classify"

# What these networks are made of. Anything else is refused before torch-pruning traces it, since there it can run for
# ever or couple wrongly.
_KNOWN_BLOCKS = frozenset((
    DetectionModel, SegmentationModel, PoseModel, OBBModel, ClassificationModel, *sum(heads.HEADS.values(), ()),
    Conv, DWConv, C2, C2f, C3k, C3k2, C2PSA, PSABlock, Attention, Bottleneck, SPPF, Concat, DFL, Proto, Proto26,
    RealNVP, nn.Tanh,
    nn.Sequential, nn.ModuleList, nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Upsample,
    nn.AdaptiveAvgPool2d, nn.Dropout, nn.Linear, nn.Identity, nn.SiLU, nn.ReLU, nn.LeakyReLU, nn.Hardswish,
))  # fmt: skip


def _chain(halves: Sequence[torch.Tensor], blocks: nn.ModuleList) -> list[torch.Tensor]:
    """Join as a C2f does: both halves, and what each block makes of the one before it."""
    parts = list(halves)
    for block in blocks:
        parts.append(block(parts[-1]))
    return parts


# How a block that chunks joins its halves again: what its last convolution reads.
_JOINED: Mapping[type[nn.Module], Callable[[Sequence[torch.Tensor], nn.Module], list[torch.Tensor]]] = {
    C2f: _chain,
    C3k2: _chain,
    C2: lambda halves, blocks: [blocks(halves[0]), halves[1]],
    C2PSA: lambda halves, blocks: [halves[0], blocks(halves[1])],
}


class SplitBlock(nn.Module):  # type: ignore[misc]
    """A block whose first convolution is two: not a C2f, since the exporter swaps the forward of each of those.

    Args:
        stock: the block, one of `_JOINED`, whose other parts are shared and not copied.
    """

    def __init__(self, stock: nn.Module) -> None:
        super().__init__()
        self.halves = nn.ModuleList(
            (_rows(stock.cv1, slice(0, stock.c)), _rows(stock.cv1, slice(stock.c, 2 * stock.c)))
        )
        self.m = stock.m
        self.cv2 = stock.cv2
        _carry_attributes(stock, self)
        self.stock_type = type(stock)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the stock block returns; `x` has shape (B, inputs, H, W)."""
        parts = _JOINED[self.stock_type]([half(x) for half in self.halves], self.m)
        return self.cv2(torch.cat(parts, 1))


def require_prunable(module: nn.Module) -> None:
    """Raise UsageError unless this is a network of `PROMISED`, stock or split, whose BatchNorm is not folded away."""
    blocks = {type(block) for block in module.modules()}
    unknown = sorted(block.__name__ for block in blocks - _KNOWN_BLOCKS - {SplitBlock})
    if unknown:
        raise UsageError(
            f"{_called(module)} with the blocks {', '.join(unknown)}, whose channels cannot be coupled safely",
            wanted=PROMISED,
        )
    if not heads.known(module):
        head = type(module.model[-1]).__name__
        raise UsageError(f"{_called(module)} for the task {module.task!r} with {head} as its head", wanted=PROMISED)
    for path, block in module.named_modules():
        if isinstance(block, Conv) and not isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            raise UsageError(f"{path} has no BatchNorm", wanted="a checkpoint whose BatchNorm is not folded away")
        if isinstance(block, nn.Conv2d) and block.groups not in (1, block.out_channels):
            raise UsageError(f"{path} is a convolution in {block.groups} groups", wanted=PROMISED)


def _called(module: nn.Module) -> str:
    source = Path(str(module.yaml.get("yaml_file", ""))).stem
    return f"a network made from {source}" if source else "a network"


def split(module: nn.Module) -> None:
    """Replace every stock block that chunks, in place, by its split form; subclasses of them stay."""
    for path, block in list(module.named_modules()):
        if type(block) in _JOINED:
            module.set_submodule(path, SplitBlock(block))


def split_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a stock network in the split form."""
    made = copy.deepcopy(module)
    split(made)
    return made


def join(module: nn.Module) -> None:
    """Replace every split form of a network, in place, by the stock block of its present widths.

    Raises:
        StageFailed: two halves differ in width, which a stock block cannot hold.
    """
    for path, block in list(module.named_modules()):
        if isinstance(block, SplitBlock):
            module.set_submodule(path, _stock(block))


def _stock(block: SplitBlock) -> nn.Module:
    widths = [half.conv.out_channels for half in block.halves]
    if widths[0] != widths[1]:
        raise StageFailed(
            f"the halves of a {block.stock_type.__name__} are {widths[0]} and {widths[1]} wide",
            do="report this as a bug",
        )
    stock = object.__new__(block.stock_type)
    nn.Module.__init__(stock)
    _carry_attributes(block, stock)
    del stock.stock_type
    stock.cv1, stock.cv2, stock.m, stock.c = _stacked(*block.halves), block.cv2, block.m, widths[0]
    if hasattr(stock, "np"):
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

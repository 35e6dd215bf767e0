"""Find which channels go together, with torch-pruning's dependency graph, and cut them.

The graph is traced on a skeleton without weights, so that it costs neither time nor memory; nothing is decided here.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Conv

from slimdeploy.channels import ConvLayer, CoupledGroup, Coupling, Reader
from slimdeploy.errors import StageFailed
from slimdeploy.records import KeptWhole
from slimdeploy.yolo import macs, process, prunable
from slimdeploy.yolo.checkpoint import count_parameters

_BOX_OUTPUT = "an output of the network: the box distances of every anchor, in bins"
_CLASS_OUTPUT = "an output of the network: one score a class"
_DFL_OUTPUT = "fixed weights that turn the bins of a box distance into a mean"


class _Parts:
    """A split network's convolutions by their stock names, each with the BatchNorm behind it or None."""

    def __init__(self, module: nn.Module) -> None:
        self.paths: dict[str, str] = {}
        self.convs: dict[str, nn.Conv2d] = {}
        self.norms: dict[str, Any] = {}
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Conv2d):
                block = module.get_submodule(path.rpartition(".")[0])
                name = _stock_name(path.removesuffix(".conv")) if isinstance(block, Conv) else path
                self.paths[name], self.convs[name] = path, layer
                self.norms[name] = block.bn if isinstance(block, Conv) else None
        self.names = {id(conv): name for name, conv in self.convs.items()}


def _stock_name(path: str) -> str:
    return re.sub(r"\.halves\.([01])$", r".cv1[\1]", path)


def couple(module: nn.Module, imgsz: tuple[int, int]) -> Coupling:
    """Return a network's groups of coupled channels.

    Args:
        module: a YOLOv8 detector in the split form of `prunable.split`; it is not changed.
        imgsz: input height and width that multiply-accumulates are counted at, in pixels.

    Raises:
        UsageError: the network is no YOLOv8 detector, or its BatchNorm is folded away.
    """
    prunable.require_prunable(module)
    bones = macs.skeleton(module)
    parts = _Parts(bones)
    positions = macs.output_positions(bones, imgsz)
    whole = _kept_whole(bones, parts)
    found = [_as_group(items, parts) for items in _trace(bones, parts, [w.layer for w in whole], imgsz)]
    order = list(parts.convs)
    groups = _tied(sorted(found, key=lambda group: order.index(group.name)))
    _require_complete(parts, groups, whole)
    layers = tuple(_as_layer(name, parts, positions) for name in order)
    coupling = Coupling(imgsz=imgsz, layers=layers, groups=groups, kept_whole=whole)
    return replace(coupling, other_parameters=count_parameters(module) - coupling.parameters(coupling.whole()))


def _kept_whole(bones: nn.Module, parts: _Parts) -> tuple[KeptWhole, ...]:
    head = bones.model[-1]
    outputs = {id(branch[-1]): _BOX_OUTPUT for branch in head.cv2}
    outputs |= {id(branch[-1]): _CLASS_OUTPUT for branch in head.cv3}
    outputs[id(getattr(head.dfl, "conv", None))] = _DFL_OUTPUT
    return tuple(
        KeptWhole(layer=name, width=conv.out_channels, why=outputs[id(conv)])
        for name, conv in parts.convs.items()
        if id(conv) in outputs
    )


def _trace(bones: nn.Module, parts: _Parts, ignored: Sequence[str], imgsz: tuple[int, int]) -> list[Any]:
    with warnings.catch_warnings(), process.stdout_to_stderr(), torch.enable_grad():
        warnings.simplefilter("ignore")
        import torch_pruning

        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(bones, macs.example(bones, imgsz), verbose=False)
        skipped = [parts.convs[name] for name in ignored]
        return list(graph.get_all_groups(ignored_layers=skipped, root_module_types=(nn.Conv2d,)))


def _as_group(items: Iterable[Any], parts: _Parts) -> CoupledGroup:
    makers: list[str] = []
    norms: list[int] = []
    readers: list[Reader] = []
    for item in items:
        layer, root = item.dep.target.module, item.root_idxs
        if isinstance(layer, nn.BatchNorm2d):
            norms.append(id(layer))
        elif isinstance(layer, nn.Conv2d) and item.dep.handler.__name__ == "prune_out_channels":
            makers.append(parts.names[id(layer)])
            _require(_offsets(item.idxs, root) == (0,), f"{makers[-1]} makes channels of a group out of order")
        elif isinstance(layer, nn.Conv2d):
            readers.append(Reader(layer=parts.names[id(layer)], offsets=_offsets(item.idxs, root)))
    order = list(parts.convs)
    makers.sort(key=order.index)
    readers.sort(key=lambda reader: order.index(reader.layer))
    _require(sorted(norms) == sorted(id(parts.norms[m]) for m in makers), f"{makers} lack BatchNorms of their own")
    return CoupledGroup(
        name=makers[0], width=parts.convs[makers[0]].out_channels, layers=tuple(makers), readers=tuple(readers)
    )


def _offsets(positions: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    """Return where blocks of a group's channels start: channel i lies at `offset + i` for every offset."""
    width = max(channels) + 1
    starts = sorted({p - c for p, c in zip(positions, channels, strict=True)})
    _require(len(positions) == width * len(starts), "channels of a group lie scattered in a convolution's input")
    return tuple(starts)


def _tied(groups: Sequence[CoupledGroup]) -> tuple[CoupledGroup, ...]:
    """Tie the groups of the two halves of each C2f, since a stock C2f chunks into equal halves."""
    owner = {layer: group.name for group in groups for layer in group.layers}
    ties: dict[str, str] = {}
    for layer, name in owner.items():
        if layer.endswith(".cv1[0]"):
            other = owner[layer.replace(".cv1[0]", ".cv1[1]")]
            _require(other != name and not {name, other} & ties.keys(), f"{layer} is tied to more than one group")
            ties |= {name: other, other: name}
    return tuple(replace(group, tied_to=ties.get(group.name, "")) for group in groups)


def _as_layer(name: str, parts: _Parts, positions: Mapping[str, int]) -> ConvLayer:
    conv, norm = parts.convs[name], parts.norms[name]
    return ConvLayer(
        name=name,
        outputs=conv.out_channels,
        inputs=conv.in_channels,
        kernel=conv.kernel_size[0] * conv.kernel_size[1],
        positions=positions[parts.paths[name]],
        scalars_per_output=int(conv.bias is not None) + (2 if norm is not None else 0),
        stride=conv.stride[0],
    )


def _require_complete(parts: _Parts, groups: Sequence[CoupledGroup], whole: Sequence[KeptWhole]) -> None:
    named = [layer for group in groups for layer in group.layers] + [one.layer for one in whole]
    _require(sorted(named) == sorted(parts.convs), f"convolutions in no group: {sorted(set(parts.convs) - set(named))}")


def _require(holds: bool, wrong: str) -> None:
    if not holds:
        raise StageFailed(f"the network's channels cannot be told apart: {wrong}", do="report this as a bug")


def convolutions_of(module: nn.Module) -> dict[str, Any]:
    """Return every convolution of a split network by its name."""
    return _Parts(module).convs


def norms_of(module: nn.Module) -> dict[str, Any]:
    """Return the BatchNorm behind every convolution of a split network, or None, by the convolution's name."""
    return _Parts(module).norms


def scale_importance(module: nn.Module, coupling: Coupling) -> dict[str, tuple[float, ...]]:
    """Return |gamma| of every channel, averaged over the coupled BatchNorms; the criterion `bn_gamma`.

    Args:
        module: the split network that `coupling` was found in.
        coupling: its groups.

    Returns:
        For every group, by its name, one value a channel, each 0 or more.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    norms = _Parts(module).norms
    scores = {}
    for group in coupling.groups:
        scales = torch.stack([norms[layer].weight.detach().double().abs() for layer in group.layers])  # (layers, width)
        scores[group.name] = tuple(scales.mean(0).tolist())
    return scores


def cut(module: nn.Module, coupling: Coupling, kept: Mapping[str, Sequence[int]]) -> None:
    """Remove channels from a split network, in place.

    Args:
        module: the split network that `coupling` was found in.
        coupling: its groups.
        kept: positions that stay, for every group by its name.

    Raises:
        StageFailed: a convolution did not get the shape that `kept` asks for.
    """
    import torch_pruning

    made, read = _positions_gone(coupling, kept)
    parts = _Parts(module)
    for name, gone in made.items():
        torch_pruning.prune_conv_out_channels(parts.convs[name], gone)
        torch_pruning.prune_batchnorm_out_channels(parts.norms[name], gone)
    for name, gone in read.items():
        torch_pruning.prune_conv_in_channels(parts.convs[name], gone)
    done = {name: (conv.weight.shape[0], conv.weight.shape[1]) for name, conv in parts.convs.items()}
    asked = coupling.shapes({name: len(positions) for name, positions in kept.items()})
    wrong = [f"{name} is {done[name]} and not {asked[name]}" for name in asked if done[name] != asked[name]]
    if wrong:
        raise StageFailed(f"the cut differs from the plan: {wrong[0]}", do="report this as a bug")


def _positions_gone(
    coupling: Coupling, kept: Mapping[str, Sequence[int]]
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    made: dict[str, list[int]] = defaultdict(list)
    read: dict[str, list[int]] = defaultdict(list)
    for group in coupling.groups:
        gone = sorted(set(range(group.width)) - set(kept[group.name]))
        for layer in group.layers if gone else ():
            made[layer] += gone
        for reader in group.readers if gone else ():
            read[reader.layer] += [offset + channel for offset in reader.offsets for channel in gone]
    return made, read

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
from ultralytics.nn.modules import Attention, Conv
from ultralytics.nn.modules.block import RealNVP

from slimdeploy.channels import ConvLayer, CoupledGroup, Coupling, Reader
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.records import KeptWhole
from slimdeploy.yolo import heads, macs, process, prunable
from slimdeploy.yolo.checkpoint import count_parameters

_ATTENTION = "part of an attention block, or added to its channels: its heads share them evenly"
_HALF = "the other half of {}, which keeps its width"


class _Parts:
    """A split network's layers by their stock names, each with the BatchNorm behind it or None."""

    def __init__(self, module: nn.Module) -> None:
        self.paths: dict[str, str] = {}
        self.convs: dict[str, Any] = {}
        self.norms: dict[str, Any] = {}
        flows = {id(part) for flow in module.modules() if isinstance(flow, RealNVP) for part in flow.modules()}
        for path, layer in module.named_modules():
            if isinstance(layer, macs.COUNTED) and id(layer) not in flows:
                block = module.get_submodule(path.rpartition(".")[0])
                in_block = isinstance(block, Conv)
                name = _stock_name(path.removesuffix(".conv")) if in_block else path
                self.paths[name], self.convs[name] = path, layer
                self.norms[name] = block.bn if in_block else None
        self.names = {id(conv): name for name, conv in self.convs.items()}


def _stock_name(path: str) -> str:
    return re.sub(r"\.halves\.([01])$", r".cv1[\1]", path)


def couple(module: nn.Module, imgsz: tuple[int, int]) -> Coupling:
    """Return a network's groups of coupled channels.

    Args:
        module: a network in the split form of `prunable.split`; it is not changed.
        imgsz: input height and width that multiply-accumulates are counted at, in pixels.

    Raises:
        UsageError: the network is none of `prunable.PROMISED`, its BatchNorm is folded away, or the size does not
            suit its stride.
    """
    prunable.require_prunable(module)
    _require_stride(module, imgsz)
    bones = macs.skeleton(module)
    parts = _Parts(bones)
    counted = macs.arithmetic(bones, imgsz)
    fixed = _fixed(bones, parts)
    found = [_as_group(items, parts) for items in _trace(bones, imgsz)]
    order = list(parts.convs)
    free, whole = _told_apart(sorted(found, key=lambda group: order.index(group.name)), fixed)
    groups = _tied(free)
    kept = tuple(KeptWhole(layer=n, width=_shape(parts.convs[n])[0], why=whole[n]) for n in order if n in whole)
    _require_complete(parts, groups, kept)
    layers = tuple(_as_layer(name, parts, counted.positions) for name in order)
    coupling = Coupling(imgsz=imgsz, layers=layers, groups=groups, kept_whole=kept, other_macs=counted.products)
    return replace(coupling, other_parameters=count_parameters(module) - coupling.parameters(coupling.whole()))


def _require_stride(module: nn.Module, imgsz: tuple[int, int]) -> None:
    stride = int(max(module.stride))
    if any(side % stride for side in imgsz):
        raise UsageError(f"an input of {imgsz[0]}x{imgsz[1]} pixels", wanted=f"sides that are multiples of {stride}")


def _fixed(bones: nn.Module, parts: _Parts) -> dict[str, str]:
    """Return why layers keep their widths, by name: the last ones of the head, and all of an attention block."""
    why = heads.last_layers(bones.model[-1], bones.task)
    for block in bones.modules():
        if isinstance(block, Attention):
            why |= {id(conv.conv): _ATTENTION for conv in (block.qkv, block.proj, block.pe)}
    return {name: why[id(conv)] for name, conv in parts.convs.items() if id(conv) in why}


def _told_apart(groups: Sequence[CoupledGroup], fixed: Mapping[str, str]) -> tuple[list[CoupledGroup], dict[str, str]]:
    """Return the groups that can be narrowed, and why the layers of all others keep their widths."""
    whole = dict(fixed)
    for group in groups:
        named = [*group.layers, *(reader.layer for reader in group.readers)]
        reasons = [fixed[name] for name in group.layers if name in fixed]
        reasons += [_ATTENTION for name in named if fixed.get(name) == _ATTENTION]
        whole |= {layer: reasons[0] for layer in group.layers if reasons and layer not in fixed}
    for layer in list(whole):
        other = _other_half(layer)
        if other and other not in whole:
            group = next(group for group in groups if other in group.layers)
            whole |= dict.fromkeys(group.layers, _HALF.format(layer))
    return [group for group in groups if group.name not in whole], whole


def _other_half(layer: str) -> str:
    found = re.fullmatch(r"(.*\.cv1)\[([01])\]", layer)
    return f"{found[1]}[{1 - int(found[2])}]" if found else ""


def _trace(bones: nn.Module, imgsz: tuple[int, int]) -> list[Any]:
    """Return torch-pruning's groups, of a skeleton that it can follow.

    Attention becomes its last convolution alone, since torch-pruning does not come to an end with what lies before,
    and a head gives what its last layers give, undecoded.
    """
    for block in bones.modules():
        if isinstance(block, Attention):
            block.forward = block.proj.forward
    head = bones.model[-1]
    if bones.task != "classify":
        head.forward = lambda inputs: heads.all_outputs(head, inputs)
    with warnings.catch_warnings(), process.stdout_to_stderr(), torch.enable_grad():
        warnings.simplefilter("ignore")
        import torch_pruning

        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(bones, macs.example(bones, imgsz), verbose=False)
        return list(graph.get_all_groups(root_module_types=macs.COUNTED))


def _as_group(items: Iterable[Any], parts: _Parts) -> CoupledGroup:
    makers: list[str] = []
    norms: list[int] = []
    readers: list[Reader] = []
    for item in items:
        layer, root = item.dep.target.module, item.root_idxs
        if isinstance(layer, nn.BatchNorm2d):
            norms.append(id(layer))
        elif isinstance(layer, macs.COUNTED) and item.dep.handler.__name__ == "prune_out_channels":
            makers.append(parts.names[id(layer)])
            _require(_offsets(item.idxs, root) == (0,), f"{makers[-1]} makes channels of a group out of order")
        elif isinstance(layer, macs.COUNTED):
            readers.append(Reader(layer=parts.names[id(layer)], offsets=_offsets(item.idxs, root)))
    order = list(parts.convs)
    makers.sort(key=order.index)
    readers.sort(key=lambda reader: order.index(reader.layer))
    own = [id(norm) for maker in makers if (norm := parts.norms[maker]) is not None]
    _require(sorted(norms) == sorted(own), f"{makers} lack BatchNorms of their own")
    return CoupledGroup(
        name=makers[0], width=_shape(parts.convs[makers[0]])[0], layers=tuple(makers), readers=tuple(readers)
    )


def _offsets(positions: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    """Return where blocks of a group's channels start: channel i lies at `offset + i` for every offset."""
    width = max(channels) + 1
    starts = sorted({p - c for p, c in zip(positions, channels, strict=True)})
    _require(len(positions) == width * len(starts), "channels of a group lie scattered in a convolution's input")
    return tuple(starts)


def _tied(groups: Sequence[CoupledGroup]) -> tuple[CoupledGroup, ...]:
    """Tie the groups of the two halves of each block that chunks, since stock ones chunk into equal halves."""
    owner = {layer: group.name for group in groups for layer in group.layers}
    ties: dict[str, str] = {}
    for layer, name in owner.items():
        if layer.endswith(".cv1[0]"):
            other = owner[_other_half(layer)]
            _require(other != name and not {name, other} & ties.keys(), f"{layer} is tied to more than one group")
            ties |= {name: other, other: name}
    return tuple(replace(group, tied_to=ties.get(group.name, "")) for group in groups)


def _as_layer(name: str, parts: _Parts, positions: Mapping[str, int]) -> ConvLayer:
    conv, norm = parts.convs[name], parts.norms[name]
    outputs, inputs = _shape(conv)
    return ConvLayer(
        name=name,
        outputs=outputs,
        inputs=inputs,
        kernel=conv.weight[0, 0].numel(),
        positions=positions.get(parts.paths[name], 0),
        scalars_per_output=int(conv.bias is not None) + (2 if norm is not None else 0),
        kind=_kind(conv),
        stride=getattr(conv, "stride", (1,))[0],
    )


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        return "depthwise" if layer.groups > 1 else "conv"
    return "transposed" if isinstance(layer, nn.ConvTranspose2d) else "linear"


def _shape(layer: nn.Module) -> tuple[int, int]:
    """Return the output channels of a layer, and how many inputs each of them reads."""
    first, second = layer.weight.shape[:2]
    return (second, first) if isinstance(layer, nn.ConvTranspose2d) else (first, second)


def _require_complete(parts: _Parts, groups: Sequence[CoupledGroup], whole: Sequence[KeptWhole]) -> None:
    named = [layer for group in groups for layer in group.layers] + [one.layer for one in whole]
    _require(sorted(named) == sorted(parts.convs), f"layers in no group: {sorted(set(parts.convs) - set(named))}")


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

    The transposed convolution before a mask's prototypes has no BatchNorm: the length of each channel's weights, which
    scales it alike, stands for gamma.

    Args:
        module: the split network that `coupling` was found in.
        coupling: its groups.

    Returns:
        For every group, by its name, one value a channel, each 0 or more.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    parts = _Parts(module)
    scores = {}
    for group in coupling.groups:
        scales = torch.stack([_scales(parts, layer) for layer in group.layers])  # (layers, width)
        scores[group.name] = tuple(scales.mean(0).tolist())
    return scores


def _scales(parts: _Parts, layer: str) -> torch.Tensor:
    norm, weight = parts.norms[layer], parts.convs[layer].weight.detach().double()
    if norm is not None:
        return norm.weight.detach().double().abs()
    return weight.transpose(0, 1).flatten(1).norm(dim=1)  # (outputs,); a transposed convolution's inputs come first


def cut(module: nn.Module, coupling: Coupling, kept: Mapping[str, Sequence[int]]) -> None:
    """Remove channels from a split network, in place.

    Args:
        module: the split network that `coupling` was found in.
        coupling: its groups.
        kept: positions that stay, for every group by its name.

    Raises:
        StageFailed: a layer did not get the shape that `kept` asks for.
    """
    made, read = _positions_gone(coupling, kept)
    parts = _Parts(module)
    for name, gone in made.items():
        _narrow_outputs(parts.convs[name], parts.norms[name], gone)
    for name, gone in read.items():
        _narrow_inputs(parts.convs[name], gone)
    done = {name: _shape(conv) for name, conv in parts.convs.items()}
    asked = coupling.shapes({name: len(positions) for name, positions in kept.items()})
    wrong = [f"{name} is {done[name]} and not {asked[name]}" for name in asked if done[name] != asked[name]]
    if wrong:
        raise StageFailed(f"the cut differs from the plan: {wrong[0]}", do="report this as a bug")


def _narrow_outputs(layer: nn.Module, norm: nn.Module | None, gone: list[int]) -> None:
    import torch_pruning

    if _kind(layer) == "depthwise":
        torch_pruning.prune_depthwise_conv_out_channels(layer, gone)
    else:
        torch_pruning.prune_conv_out_channels(layer, gone)
    if norm is not None:
        torch_pruning.prune_batchnorm_out_channels(norm, gone)


def _narrow_inputs(layer: nn.Module, gone: list[int]) -> None:
    import torch_pruning

    narrow = (
        torch_pruning.prune_linear_in_channels if _kind(layer) == "linear" else torch_pruning.prune_conv_in_channels
    )
    narrow(layer, gone)


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

"""Coupled channels as plain records: what goes together, and what a network costs at other widths.

A convolution's outputs are read by others, added to others and concatenated with others, so channels go in
groups. These records hold shapes and names and no weight; a planner computes what a plan saves from them alone.
Layers are called as in the stock network, such as `model.4.m.0.cv1`; the convolution that a C2f chunks in two
counts as two, `model.4.cv1[0]` and `model.4.cv1[1]`.

A depthwise convolution makes one channel of each that it reads: it belongs to the layers that make a group's channels,
and reads one input a channel whatever its width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slimdeploy.records import KeptWhole


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvLayer:
    """One convolution, without groups or depthwise, or a classifier's linear layer.

    Attributes:
        name: the layer.
        outputs: output channels.
        inputs: input channels; 1 for a depthwise convolution.
        kernel: weights between one input and one output channel: kernel height times width.
        positions: how often each weight is used for one image: output height times width, of a transposed convolution
            input height times width; 0 for a layer that training alone needs.
        scalars_per_output: parameters that come with one output channel: bias, BatchNorm scale and shift.
        kind: `conv`, `depthwise`, `transposed` or `linear`.
        stride: inputs from one output to the next, in both directions.
    """

    name: str
    outputs: int
    inputs: int
    kernel: int
    positions: int
    scalars_per_output: int
    kind: str = "conv"
    stride: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A layer that reads a group's channels: channel i at input `offset + i` for every offset."""

    layer: str
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoupledGroup:
    """Channels that stay or go together.

    Attributes:
        name: the first convolution that makes them.
        width: how many they are.
        layers: every convolution that makes them, each with a BatchNorm of its own unless it is a transposed one.
        readers: every layer that reads them.
        tied_to: the group that must keep equally many (the two halves of a block that chunks), or "".
    """

    name: str
    width: int
    layers: tuple[str, ...]
    readers: tuple[Reader, ...]
    tied_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupling:
    """A network as a planner sees it.

    Attributes:
        imgsz: input height and width that positions are counted at, in pixels.
        layers: every convolution and linear layer, in the network's order.
        groups: every group that can be narrowed, in the network's order.
        kept_whole: the layers in no group, and why.
        other_parameters: scalars that belong to none of the layers and to no BatchNorm behind one.
        other_macs: multiply-accumulates outside the layers, in attention.
    """

    imgsz: tuple[int, int]
    layers: tuple[ConvLayer, ...]
    groups: tuple[CoupledGroup, ...]
    kept_whole: tuple[KeptWhole, ...]
    other_parameters: int = 0
    other_macs: int = 0

    def whole(self) -> dict[str, int]:
        """Return the width of every group, by its name."""
        return {group.name: group.width for group in self.groups}

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Return (outputs, inputs) of every layer once each group has the given width.

        Args:
            widths: channels that each group keeps, by its name.
        """
        outputs = {layer.name: layer.outputs for layer in self.layers}
        inputs = {layer.name: layer.inputs for layer in self.layers}
        for group in self.groups:
            gone = group.width - widths[group.name]
            for layer in group.layers:
                outputs[layer] -= gone
            for reader in group.readers:
                inputs[reader.layer] -= gone * len(reader.offsets)
        return {name: (outputs[name], inputs[name]) for name in outputs}

    def parameters(self, widths: Mapping[str, int]) -> int:
        """Return how many scalars training changes at these widths."""
        shapes = self.shapes(widths)
        return self.other_parameters + sum(_parameters(layer, *shapes[layer.name]) for layer in self.layers)

    def macs(self, widths: Mapping[str, int]) -> int:
        """Return the multiply-accumulates of one image at these widths."""
        shapes = self.shapes(widths)
        return self.other_macs + sum(_macs(layer, *shapes[layer.name]) for layer in self.layers)


def _parameters(layer: ConvLayer, outputs: int, inputs: int) -> int:
    return outputs * (inputs * layer.kernel + layer.scalars_per_output)


def _macs(layer: ConvLayer, outputs: int, inputs: int) -> int:
    return outputs * inputs * layer.kernel * layer.positions

"""What decides how long a convolution takes, and which of its widths are worth measuring."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slimdeploy.channels import ConvLayer, Coupling

EVERY_UP_TO = 64  # channels up to which every aligned width is measured: there one step changes most
STEPS_AN_OCTAVE = 3  # widths measured between a power of two and the next one above that

Widths = tuple[int, int]  # (inputs, outputs)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Kind:
    """Convolutions that differ in nothing but their widths.

    Attributes:
        kernel: side of the square kernel.
        stride: in both directions.
        height: of the output, in positions.
        width: of the output, in positions.
        form: of the layer, as `ConvLayer.kind` has it: `conv`, `depthwise`, `transposed` or `linear`.
    """

    kernel: int
    stride: int
    height: int
    width: int
    form: str = "conv"

    def __str__(self) -> str:
        form = "" if self.form == "conv" else f"{self.form} "
        return f"{form}{self.kernel}x{self.kernel} stride {self.stride} at {self.height}x{self.width}"


def kind_of(layer: ConvLayer, imgsz: tuple[int, int]) -> Kind:
    """Return the kind of a convolution of a network whose input has the height and width `imgsz`, in pixels."""
    shrunk = math.sqrt(imgsz[0] * imgsz[1] / layer.positions)
    return Kind(
        kernel=math.isqrt(layer.kernel),
        stride=layer.stride,
        height=round(imgsz[0] / shrunk),
        width=round(imgsz[1] / shrunk),
        form=layer.kind,
    )


def changeable(coupling: Coupling) -> tuple[ConvLayer, ...]:
    """Return the convolutions that run and whose widths a plan can narrow, in the network's order."""
    touched = {name for group in coupling.groups for name in group.layers}
    touched |= {reader.layer for group in coupling.groups for reader in group.readers}
    return tuple(layer for layer in coupling.layers if layer.name in touched and layer.positions)


def to_measure(coupling: Coupling, alignment: int) -> dict[Kind, tuple[Widths, ...]]:
    """Return the widths at which each kind of a network's convolutions is measured, sorted.

    They form a grid below each layer's own widths, dense where channels are few; a table interpolates between them.

    Args:
        coupling: the network.
        alignment: planned widths are multiples of this many channels.
    """
    layers: dict[Kind, list[Widths]] = {}
    for layer in changeable(coupling):
        layers.setdefault(kind_of(layer, coupling.imgsz), []).append((layer.inputs, layer.outputs))
    return {kind: _staircase(corners, alignment) for kind, corners in sorted(layers.items())}


def _staircase(corners: Iterable[Widths], alignment: int) -> tuple[Widths, ...]:
    corners = sorted(set(corners))
    inputs, outputs = (axis({corner[side] for corner in corners}, alignment) for side in (0, 1))
    return tuple((i, o) for i in inputs for o in outputs if any(i <= ci and o <= co for ci, co in corners))


def axis(dense: Iterable[int], alignment: int) -> tuple[int, ...]:
    """Return the widths to measure along one side: aligned ones, and the dense widths themselves.

    Args:
        dense: widths of the layers before pruning.
        alignment: planned widths are multiples of this many channels.
    """
    found = set(dense)
    largest = max(found)
    found |= set(range(alignment, min(largest, EVERY_UP_TO) + 1, alignment))
    start = EVERY_UP_TO
    while start < largest:
        steps = {round(start * (1 + k / STEPS_AN_OCTAVE) / alignment) * alignment for k in range(STEPS_AN_OCTAVE)}
        found |= {width for width in steps if width < largest}
        start *= 2
    return tuple(sorted(found))


def count(wanted: Mapping[Kind, tuple[Widths, ...]]) -> int:
    """Return how many shapes there are to measure."""
    return sum(len(widths) for widths in wanted.values())

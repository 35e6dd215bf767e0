"""The latency table: milliseconds of every convolution at every width, measured on a target; read, written, asked."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from slimdeploy.channels import ConvLayer, Coupling
from slimdeploy.errors import UsageError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, why_malformed
from slimdeploy.latency.shapes import Kind, Widths, changeable, kind_of
from slimdeploy.lineage import SCHEMA, read_json, write_json
from slimdeploy.records import Target

_MOST_WIDTHS = 10_000  # of one kind of convolution; YOLOv8x has some 600

REMAKE = "measure one: slimdeploy latency WEIGHTS --target {target} --imgsz {imgsz} --out table.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One convolution, timed.

    Attributes:
        inputs: input channels.
        outputs: output channels.
        ms: median over the calls.
        noise_ms: robust standard deviation of the calls.
        calls: how many there were.
    """

    inputs: int
    outputs: int
    ms: float
    noise_ms: float
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTime:
    """A whole network, timed, beside what its convolutions come to by the table.

    Attributes:
        layers_ms: sum of the table over the network.
        measured_ms: median of the network as exported.
        noise_ms: robust standard deviation of its calls.
    """

    layers_ms: float
    measured_ms: float
    noise_ms: float


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """What `slimdeploy latency` measured.

    Attributes:
        target: name of the target.
        backend: runtime that ran the layers.
        backend_version: of the runtime.
        precision: of weights and activations.
        threads: intra-op threads.
        imgsz: input height and width, in pixels.
        alignment: widths were measured in multiples of this.
        network: whose convolutions these are.
        layers: times by kind of convolution.
        wholes: whole networks of different widths; they give what the sum over the layers leaves out.
        environment: machine and versions.
        device: address of the board that it was measured on; "" for this machine.
        simulated: whether recorded files stood for that board, so that no figure is a board's.
    """

    target: str
    backend: str
    backend_version: str
    precision: str
    threads: int
    imgsz: tuple[int, int]
    alignment: int
    network: str
    layers: Mapping[Kind, tuple[LayerTime, ...]]
    wholes: tuple[WholeTime, ...]
    environment: Mapping[str, Any]
    device: str = ""
    simulated: bool = False

    @property
    def measured(self) -> bool:
        """Whether milliseconds were measured."""
        return True

    @property
    def here(self) -> bool:
        """Whether they are this machine's, which can then time whole plans, too."""
        return not self.device

    @property
    def source(self) -> str:
        """What a plan that rests on this table says of it."""
        place = f"{self.target} at {self.device}" if self.device else self.target
        place += ", a simulated board and no Jetson," if self.simulated else ""
        return f"table measured on {place} with {self.backend} {self.backend_version}, {self.threads} threads"

    @cached_property
    def fit(self) -> tuple[float, float]:
        """What all else costs: (fixed milliseconds, factor on the sum over the layers), from the whole networks."""
        return fitted([(one.layers_ms, one.measured_ms) for one in self.wholes])

    @property
    def noise(self) -> float:
        """The middle one of the layers' robust standard deviations, each as a share of its time."""
        return median(time.noise_ms / time.ms for times in self.layers.values() for time in times)

    @property
    def fixed_ms(self) -> float:
        """Milliseconds that no width changes."""
        return self.fit[0]

    def layer_ms(self, layer: ConvLayer, outputs: int, inputs: int) -> float:
        """Return what a convolution costs at given widths, its share of everything between layers included."""
        return self.fit[1] * self.alone_ms(layer, outputs, inputs)

    def alone_ms(self, layer: ConvLayer, outputs: int, inputs: int) -> float:
        """Return what a convolution took in a graph of its own, interpolated between measured widths."""
        return self._grids[kind_of(layer, self.imgsz)].at(inputs, outputs)

    @cached_property
    def _grids(self) -> dict[Kind, Grid]:
        return {kind: Grid({(t.inputs, t.outputs): t.ms for t in times}) for kind, times in self.layers.items()}

    def require_made_for(self, target: Target, precision: str) -> None:
        """Raise UsageError unless the table was measured with a target's runtime, at a precision."""
        if self.backend != target.runtime:
            raise UsageError(
                f"the latency table was measured with {self.backend}",
                wanted=f"{target.runtime}, which the target {target.name} runs",
                do=REMAKE.format(target=target.name, imgsz=self.imgsz[0]),
            )
        if self.precision != precision:
            raise UsageError(
                f"the latency table was measured at {self.precision}",
                wanted=precision,
                do=f"measure one with --precision {precision}, or prune with --precision {self.precision}",
            )

    def require_fits(self, coupling: Coupling) -> None:
        """Raise UsageError unless the table holds every convolution of a network at its input size."""
        again = REMAKE.format(target=self.target, imgsz=coupling.imgsz[0])
        if self.imgsz != coupling.imgsz:
            raise UsageError(
                f"the latency table is for inputs of {self.imgsz[0]}x{self.imgsz[1]}",
                wanted=f"one for {coupling.imgsz[0]}x{coupling.imgsz[1]}",
                do=f"{again}, or give the table's size with --imgsz",
            )
        for layer in changeable(coupling):
            grid = self._grids.get(kind_of(layer, self.imgsz))
            if grid is None or not grid.holds(layer.inputs, layer.outputs):
                raise UsageError(
                    f"the latency table of {self.network} lacks {layer.name}: {kind_of(layer, self.imgsz)}, "
                    f"{layer.inputs} to {layer.outputs} channels",
                    wanted="a table of this network or a larger one of its family",
                    do=again,
                )


class Grid:
    """Times of one kind of convolution over a grid of widths.

    Args:
        ms: milliseconds by (inputs, outputs).

    A wider convolution can stand in for a narrower one, so times that fall as widths rise are noise: each value becomes
    the mean of the highest of those below it and the lowest of those above it.
    """

    def __init__(self, ms: Mapping[Widths, float]) -> None:
        self.inputs = sorted({i for i, _ in ms})
        self.outputs = sorted({o for _, o in ms})
        self.ms = {at: _levelled(ms, at) for at in ms}

    def holds(self, inputs: int, outputs: int) -> bool:
        """Return whether the grid reaches these widths."""
        return inputs <= self.inputs[-1] and outputs <= self.outputs[-1] and self._corners(inputs, outputs) is not None

    def at(self, inputs: int, outputs: int) -> float:
        """Return the milliseconds at given widths; below the narrowest ones, those of the narrowest."""
        corners = self._corners(inputs, outputs)
        if corners is None:
            raise UsageError(f"a convolution of {inputs} to {outputs} channels, which the latency table lacks")
        low_i, high_i, low_o, high_o = corners
        share_i, share_o = _share(inputs, low_i, high_i), _share(outputs, low_o, high_o)
        low = self.ms[low_i, low_o] * (1 - share_o) + self.ms[low_i, high_o] * share_o
        high = self.ms[high_i, low_o] * (1 - share_o) + self.ms[high_i, high_o] * share_o
        return low * (1 - share_i) + high * share_i

    def _corners(self, inputs: int, outputs: int) -> tuple[int, int, int, int] | None:
        found = (*_around(self.inputs, inputs), *_around(self.outputs, outputs))
        return found if (found[1], found[3]) in self.ms else None


def _levelled(ms: Mapping[Widths, float], at: Widths) -> float:
    below = max(v for (i, o), v in ms.items() if i <= at[0] and o <= at[1])
    above = min(v for (i, o), v in ms.items() if i >= at[0] and o >= at[1])
    return (below + above) / 2


def _around(measured: Sequence[int], width: int) -> tuple[int, int]:
    above = min(bisect.bisect_left(measured, width), len(measured) - 1)
    return measured[max(above - 1, 0)] if measured[above] > width else measured[above], measured[above]


def _share(width: int, low: int, high: int) -> float:
    return 0.0 if high == low else (width - low) / (high - low)


def fitted(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the line through (sum over the layers, whole network) that is least wrong relative to the network.

    Args:
        pairs: milliseconds of one or more networks; of a single one, the line starts at what is left over.
    """
    weights = [1 / whole**2 for _, whole in pairs]
    total = sum(weights)
    x = sum(w * layers for w, (layers, _) in zip(weights, pairs, strict=True)) / total
    y = sum(w * whole for w, (_, whole) in zip(weights, pairs, strict=True)) / total
    spread = sum(w * (layers - x) ** 2 for w, (layers, _) in zip(weights, pairs, strict=True))
    joint = sum(w * (layers - x) * (whole - y) for w, (layers, whole) in zip(weights, pairs, strict=True))
    factor = joint / spread if spread > 0 else 1.0
    if factor <= 0 or (spread > 0 and y < factor * x):  # noise: nothing costs less the more there is of it
        return 0.0, y / x
    return y - factor * x, factor


def write_table(table: LatencyTable, path: Path) -> None:
    """Write a table as JSON."""
    plain = {f.name: getattr(table, f.name) for f in dataclasses.fields(table) if f.init and f.name != "layers"}
    layers = [
        {**dataclasses.asdict(kind), "times": [list(dataclasses.astuple(one)) for one in times]}
        for kind, times in table.layers.items()
    ]
    wholes = [dataclasses.asdict(one) for one in table.wholes]
    write_json(path, {"schema": SCHEMA, **plain, "wholes": wholes, "layers": layers}, replace=False)


def read_table(path: Path) -> LatencyTable:
    """Return the table that `write_table` wrote.

    Raises:
        UsageError: the file is missing, damaged, or of a newer schema.
    """
    record = read_json(path, what="latency table")
    try:
        layers = {
            Kind(**{name: value for name, value in one.items() if name != "times"}): tuple(
                _as_time(*row) for row in one["times"]
            )
            for one in record.pop("layers")
        }
        wholes = tuple(WholeTime(**one) for one in record.pop("wholes"))
        height, width = record.pop("imgsz")
        rest = {name: value for name, value in record.items() if name != "schema"}
        table = LatencyTable(layers=layers, wholes=wholes, imgsz=(int(height), int(width)), **rest)
        require(table)
        _require_times(table)
    except MALFORMED as error:
        raise UsageError(
            f"{path} is no latency table: {why_malformed(error)}", do="measure it again: slimdeploy latency"
        ) from error
    return table


def _require_times(table: LatencyTable) -> None:
    """Raise UsageError for times or widths that nothing can be reckoned from."""
    if not table.wholes or not table.layers:
        raise UsageError("it holds no times", wanted="layers, and whole networks")
    for kind, times in table.layers.items():
        if not 1 <= len(times) <= _MOST_WIDTHS:
            raise UsageError(f"{len(times)} times of {kind}", wanted=f"1 to {_MOST_WIDTHS}")
        if min(kind.kernel, kind.stride, kind.height, kind.width) < 1:
            raise UsageError(f"a convolution {kind}", wanted="sides of 1 or more")
    every = [time for times in table.layers.values() for time in times]
    if min(min(one.inputs, one.outputs) for one in every) < 1 or min(one.ms for one in every) <= 0:
        raise UsageError("a layer without channels, or of 0 ms or less", wanted="1 channel or more, and more than 0 ms")
    if min(min(one.measured_ms, one.layers_ms) for one in table.wholes) <= 0 or min(table.imgsz) < 1:
        raise UsageError("a network of 0 ms or less, or without a size", wanted="more than 0")


def _as_time(inputs: int, outputs: int, ms: float, noise_ms: float, calls: int) -> LayerTime:
    return LayerTime(inputs=int(inputs), outputs=int(outputs), ms=float(ms), noise_ms=float(noise_ms), calls=int(calls))

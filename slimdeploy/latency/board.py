"""The model of a board that is not at hand: compute, memory traffic and launch cost of every layer.

A layer takes its launch and then as long as the slower of two things: its arithmetic, with channels rounded up to what
the hardware computes together, at the board's effective rate; or its inputs, weights and outputs through the memory.
Rates and launch are fitted to published measurements (benchmarks/board_model.py), and lie in targets/*.toml. Such
milliseconds are estimated, not measured, and every plan made from them says so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from slimdeploy.channels import ConvLayer, Coupling
from slimdeploy.errors import TargetError
from slimdeploy.latency.shapes import changeable
from slimdeploy.latency.table import REMAKE
from slimdeploy.records import Target

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of one weight or activation


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardModel:
    """A board's milliseconds by layer.

    Attributes:
        name: of the target.
        precision: of weights and activations.
        gmacs_per_s: effective rate of arithmetic, in 10^9 multiply-accumulates a second.
        bandwidth_gbs: memory bandwidth, in GB/s.
        launch_us: what a layer costs however small it is, in microseconds.
        alignment: channels that the hardware computes together.
        fixed_ms: milliseconds of the layers that no plan narrows.
    """

    name: str
    precision: str
    gmacs_per_s: float
    bandwidth_gbs: float
    launch_us: float
    alignment: int
    fixed_ms: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether milliseconds were measured."""
        return False

    @property
    def here(self) -> bool:
        """Whether they are this machine's."""
        return False

    @property
    def source(self) -> str:
        """What a plan that rests on this model says of it."""
        return f"model of the board {self.name}, fitted to published measurements: estimated, not measured"

    def layer_ms(self, layer: ConvLayer, outputs: int, inputs: int) -> float:
        """Return the milliseconds of a convolution at given widths."""
        aligned = [-(-channels // self.alignment) * self.alignment for channels in (outputs, inputs)]
        compute_ms = aligned[0] * aligned[1] * layer.kernel * layer.positions / self.gmacs_per_s / 1e6
        values = inputs * layer.positions * layer.stride**2 + outputs * layer.positions
        values += outputs * inputs * layer.kernel
        memory_ms = values * BYTES[self.precision] / self.bandwidth_gbs / 1e6
        return self.launch_us / 1e3 + max(compute_ms, memory_ms)


def rates_of(target: Target, precision: str, imgsz: int) -> tuple[float, float, float]:
    """Return a board's rate of arithmetic in 10^9 a second, its bandwidth in GB/s and its launch cost in microseconds.

    Args:
        target: the target.
        precision: fp32, fp16 or int8.
        imgsz: side of the input, in pixels, for the advice where nothing is known.

    Raises:
        TargetError: nothing is known of the board's speed at that precision.
    """
    rate = (target.gmacs_per_s or {}).get(precision)
    if rate is None or target.bandwidth_gbs is None or target.launch_us is None:
        raise _unknown(target, imgsz, precision)
    return rate, target.bandwidth_gbs, target.launch_us


def board_forecast(target: Target, coupling: Coupling, precision: str) -> BoardModel:
    """Return the model of a target's board for a network.

    Args:
        target: the target.
        coupling: the network.
        precision: fp32, fp16 or int8.

    Raises:
        TargetError: nothing is known of the board's speed at that precision.
    """
    rate, bandwidth_gbs, launch_us = rates_of(target, precision, coupling.imgsz[0])
    model = BoardModel(
        name=target.name,
        precision=precision,
        gmacs_per_s=rate,
        bandwidth_gbs=bandwidth_gbs,
        launch_us=launch_us,
        alignment=target.alignment[precision],
    )
    moving = {layer.name for layer in changeable(coupling)}
    still = [layer for layer in coupling.layers if layer.name not in moving]
    fixed_ms = sum(model.layer_ms(layer, layer.outputs, layer.inputs) for layer in still)
    return dataclasses.replace(model, fixed_ms=fixed_ms)


def _unknown(target: Target, imgsz: int, precision: str) -> TargetError:
    if target.runtime == "tensorrt":
        return TargetError(
            f"no measurement of {target.title} at {precision} was published that a model of it could rest on",
            wanted="a board whose file in targets/ holds gmacs_per_s, bandwidth_gbs and launch_us",
            do="prune by --channels or --macs, or for a board that has a model: orin-nano-8gb, orin-nx-16gb",
        )
    return TargetError(
        f"no latency table was given for the target {target.name}",
        wanted="milliseconds by layer to plan with",
        do=REMAKE.format(target=target.name, imgsz=imgsz) + ", and name it with --table",
    )

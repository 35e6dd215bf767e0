"""A small network as a planner sees it, and a forecast of its milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from slimdeploy.channels import ConvLayer, CoupledGroup, Coupling, Reader
from slimdeploy.records import KeptWhole

GROUPS = (
    CoupledGroup(
        name="stem",
        width=32,
        layers=("stem",),
        readers=(Reader(layer="cv1[0]", offsets=(0,)), Reader(layer="cv1[1]", offsets=(0,))),
    ),
    CoupledGroup(
        name="cv1[0]",
        width=16,
        layers=("cv1[0]",),
        readers=(Reader(layer="cv2", offsets=(0,)),),
        tied_to="cv1[1]",
    ),
    CoupledGroup(
        name="cv1[1]",
        width=16,
        layers=("cv1[1]",),
        readers=(Reader(layer="cv2", offsets=(16,)),),
        tied_to="cv1[0]",
    ),
    CoupledGroup(name="cv2", width=64, layers=("cv2",), readers=(Reader(layer="out", offsets=(0,)),)),
)


def conv(name, outputs, inputs, *, kernel=9, positions=256, stride=1):
    return ConvLayer(
        name=name, outputs=outputs, inputs=inputs, kernel=kernel, positions=positions, scalars_per_output=2,
        stride=stride,
    )  # fmt: skip


def chain(*, side=64):
    """image -> stem -> two halves of a C2f -> joined again by `cv2` -> `out`, an output; cv2 is the dearest."""
    return Coupling(
        imgsz=(side, side),
        layers=(
            conv("stem", 32, 3, positions=(side // 2) ** 2, stride=2),
            conv("cv1[0]", 16, 32, kernel=1),
            conv("cv1[1]", 16, 32, kernel=1),
            conv("cv2", 64, 32),
            conv("out", 10, 64, kernel=1),
        ),
        groups=GROUPS,
        kept_whole=(KeptWhole(layer="out", width=10, why="an output"),),
        other_parameters=5,
    )


@dataclass(frozen=True)
class Blocks:
    """A machine that computes channels in blocks, and needs a nanosecond for each multiply-accumulate of theirs."""

    block: int = 1
    fixed_ms: float = 0.5
    source: str = "a made-up machine"
    measured: bool = False

    def layer_ms(self, layer, outputs, inputs):
        up = [-(-channels // self.block) * self.block for channels in (outputs, inputs)]
        return 1e-6 * up[0] * up[1] * layer.kernel * layer.positions

"""Cut copies of a network, and build them as the target's artifact, so that they can be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.channels import Coupling
from slimdeploy.configs import ExportConfig
from slimdeploy.records import Artifact, Target
from slimdeploy.stages.export import export

if TYPE_CHECKING:
    from torch import nn

HERE = ("onnxruntime", "openvino")  # runtimes that this machine can run
ANYTHING = 1e9  # no network is refused here for how well its graph agrees: it is timed, not shipped


def runs_here(target: Target) -> bool:
    """Return whether this machine can time what is built for a target."""
    return target.runtime in HERE


def coupling_of(module: nn.Module, imgsz: int) -> Coupling:
    """Return the groups of coupled channels of a stock network, which is not changed."""
    from slimdeploy.yolo import coupling, prunable

    prunable.require_prunable(module)
    return coupling.couple(prunable.split_copy(module), (imgsz, imgsz))


def cut_copy(module: nn.Module, coupling: Coupling, kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """Return a cut copy of a stock network.

    Args:
        module: the stock network; it is not changed.
        coupling: its groups.
        kept: positions that stay, for every group by its name.
    """
    from slimdeploy.yolo import coupling as cutting
    from slimdeploy.yolo import prunable

    made = prunable.split_copy(module)
    cutting.cut(made, coupling, kept)
    prunable.join(made)
    return made


def build(module: nn.Module, name: str, folder: Path, *, target: Target, imgsz: int, precision: str) -> Artifact:
    """Export a network for a target, as `slimdeploy export` does, into `folder/name`.

    Args:
        module: the stock network, dense or cut.
        name: of the files.
        folder: an existing folder.
        target: what the artifact is for.
        imgsz: side of the square input, in pixels.
        precision: of the graph.
    """
    from slimdeploy.yolo import checkpoint

    weights = folder / f"{name}.pt"
    checkpoint.save(module, weights, origin={})
    config = ExportConfig(
        precision=precision, imgsz=(imgsz, imgsz), check_images=1, box_tolerance_px=ANYTHING, score_tolerance=ANYTHING
    )
    export(weights, target, config, folder / name)
    return read_artifact(folder / name / f"model.{precision}.onnx")

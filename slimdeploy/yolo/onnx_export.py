"""The torch part of an export: a folded copy of a network, with its raw head, written as ONNX."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from ultralytics.nn.modules import C2f, Classify, Detect

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.yolo import heads, process, prunable

# What torch's exporter says while it does as it is told; any other warning is let through.
_EXPECTED_WARNINGS = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
    "Converting a tensor to a Python boolean might cause the trace to be incorrect",
)


def raw_head(module: nn.Module) -> nn.Module:
    """Return a copy of a network with BatchNorm folded into its convolutions and the raw head as its only outputs.

    Of YOLO26's two branches the one stays that the network infers with, as `heads.keep_inferring_branch` tells.

    Args:
        module: the network; it is not changed.

    Raises:
        UsageError: the network's head is none that is known.
    """
    if not heads.known(module):
        raise UsageError(
            f"a network for the task {module.task!r} with {type(module.model[-1]).__name__} as its head",
            wanted=f"{prunable.PROMISED}, without NMS inside",
        )
    network = copy.deepcopy(module).float().cpu().eval()
    network.criterion = None
    heads.keep_inferring_branch(network)
    network = network.fuse(verbose=False)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for part in network.modules():
        if isinstance(part, (Detect, Classify)):
            part.export, part.format, part.dynamic = True, "onnx", False
            part.xyxy, part.shape = False, None  # boxes as centre and size; the grid follows the input
        elif type(part).forward is C2f.forward:
            part.c = part.cv1.conv.out_channels // 2  # it chunks into halves, whatever its `c` says
            part.forward = part.forward_split  # one Split where chunk would give two Slices
    return network


def write_graph(network: nn.Module, path: Path, *, imgsz: tuple[int, int], batch: int, opset: int) -> None:
    """Trace a network at one static shape and write it as ONNX.

    Args:
        network: from `raw_head`.
        path: the file to write.
        imgsz: input height and width, in pixels.
        batch: images a call.
        opset: ONNX opset of the file.

    Raises:
        StageFailed: torch cannot export the network, or its head gives another shape.
    """
    images = torch.zeros(batch, 3, *imgsz)
    with torch.no_grad(), _quiet():
        made = heads.named_outputs(network(images))  # also makes the head lay its grid
        _require_rows(made, (batch, heads.rows(network.model[-1])))
        try:
            torch.onnx.export(
                network, (images,), str(path), opset_version=opset, input_names=[INPUT], output_names=list(made),
                **_exporter(),
            )  # fmt: skip
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise StageFailed(f"torch cannot export this network at opset {opset}: {reason}") from error


def _require_rows(made: Mapping[str, torch.Tensor], expected: tuple[int, int]) -> None:
    shape = tuple(made[OUTPUT].shape)  # (B, rows, anchors), or (B, classes)
    if shape[:2] != expected:
        raise StageFailed(f"the head gives {shape}", wanted=f"{expected} and the anchors")


def run(module: nn.Module, images: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the raw outputs of a network as it is, BatchNorm unfolded: what an export must equal.

    Args:
        module: the network, in eval mode and with a single branch; see `heads.keep_inferring_branch`.
        images: RGB in 0..1; shape (B, 3, H, W).

    Returns:
        By name, as the ONNX file calls them: `output0`, boxes as centre and size in input pixels, then scores, then
        what the task adds, of shape (B, rows, anchors), or a classifier's probabilities (B, classes); and for masks
        `output1`, their prototypes, of shape (B, masks, H / 4, W / 4).
    """
    with torch.no_grad():
        output = module(torch.from_numpy(images))
    return {name: tensor.numpy() for name, tensor in heads.named_outputs(output).items()}


def _exporter() -> dict[str, Any]:
    """Ask for the TorchScript exporter, which honours old opsets; a torch without it takes its only one."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), process.stdout_to_stderr():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield

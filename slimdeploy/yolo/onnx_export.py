"""The torch part of an export: a folded copy of a network, with its raw head, written as ONNX."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from ultralytics.nn.modules import C2f, Detect

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.yolo import process
from slimdeploy.yolo.checkpoint import class_names

# What torch's exporter says while it does as it is told; any other warning is let through.
_EXPECTED_WARNINGS = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
    "Converting a tensor to a Python boolean might cause the trace to be incorrect",
)


def raw_head(module: nn.Module) -> nn.Module:
    """Return a copy of a detector with BatchNorm folded into its convolutions and the raw head as its only output.

    Args:
        module: the network; it is not changed.

    Raises:
        UsageError: the network is no detector with YOLOv8's head.
    """
    heads = [m for m in module.modules() if isinstance(m, Detect)]
    if module.task != "detect" or len(heads) != 1 or getattr(heads[0], "end2end", False):
        raise UsageError(
            f"a network for the task {module.task!r} with {type(module.model[-1]).__name__} as its head",
            wanted="a detector with YOLOv8's head, without NMS inside",
        )
    network = copy.deepcopy(module).float().cpu().eval()
    network.criterion = None
    network = network.fuse(verbose=False)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for part in network.modules():
        if isinstance(part, Detect):
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
    expected = (batch, 4 + len(class_names(network)))
    with torch.no_grad(), _quiet():
        shape = tuple(network(images).shape)  # (B, 4 + nc, anchors); also makes the head lay its grid
        if shape[:2] != expected:
            raise StageFailed(f"the head gives {shape}", wanted=f"{expected} and the anchors")
        try:
            torch.onnx.export(
                network, (images,), str(path), opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
                **_exporter(),
            )  # fmt: skip
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise StageFailed(f"torch cannot export this network at opset {opset}: {reason}") from error


def run(module: nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the raw head's output of a network as it is, BatchNorm unfolded: what an export must equal.

    Args:
        module: the network, in eval mode.
        images: RGB in 0..1; shape (B, 3, H, W).

    Returns:
        Boxes as centre and size in input pixels, then scores; shape (B, 4 + nc, anchors).
    """
    with torch.no_grad():
        output = module(torch.from_numpy(images))
    first = output[0] if isinstance(output, (tuple, list)) else output
    result: NDArray[np.float32] = first.numpy()
    return result


def _exporter() -> dict[str, Any]:
    """Ask for the TorchScript exporter, which honours old opsets; a torch without it takes its only one."""
    return {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), process.stdout_to_stderr():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield

"""The heads of YOLOv8, YOLO11 and YOLO26: what their last layers give, and what of them runs on a board.

A YOLO26 head holds two branches: one that is trained with many anchors an object, and one with a single anchor an
object, which needs no NMS. Which one infers is written in the network: the first, unless `end2end` was set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from ultralytics.nn.modules import OBB, OBB26, Classify, Detect, Pose, Pose26, Segment, Segment26
from ultralytics.nn.modules.block import Proto26

from slimdeploy.backends.protocol import OUTPUT, PROTOTYPES

HEADS: Mapping[str, tuple[type[nn.Module], ...]] = {
    "detect": (Detect,),
    "segment": (Segment, Segment26),
    "pose": (Pose, Pose26),
    "obb": (OBB, OBB26),
    "classify": (Classify,),
}

_SECOND = "one2one_"  # how ultralytics calls the branch with a single anchor an object
_BRANCHES = ("cv2", "cv3", "cv4")
_LEAVES = ("cv4_kpts", "cv4_sigma")  # Pose26 ends its third branch in two convolutions
_GIVES = {
    "cv2": "an output of the network: the box distances of every anchor, in bins",
    "cv3": "an output of the network: one score a class",
    "cv4_kpts": "an output of the network: the keypoints of every anchor",
    "cv4_sigma": "an output of the network in training: the spread of every keypoint",
}
_THIRD = {
    "segment": "an output of the network: the mask coefficients of every anchor",
    "pose": _GIVES["cv4_kpts"],
    "obb": "an output of the network: the angle of every anchor",
}
_PROTOTYPES = "an output of the network: the prototypes that masks are mixed from"
_SEMANTICS = "an output of the network in training: one map a class"
_DFL = "fixed weights that turn the bins of a box distance into a mean"


def known(module: nn.Module) -> bool:
    """Return whether a network ends in the head of YOLOv8, YOLO11 or YOLO26 for its task."""
    return type(module.model[-1]) in HEADS.get(module.task, ())


def keep_inferring_branch(module: nn.Module) -> None:
    """Leave a network, in place, only that part of its head which infers, under the names of a single branch.

    Of two branches, that which the network itself infers with stays, so that an exported file gives what ultralytics
    predicts with the checkpoint: of a stock YOLO26 the one-to-many branch, which wants NMS behind it as YOLOv8 does and
    scores higher. Where `end2end` was set it is the one-to-one branch, whose boxes an NMS leaves nearly as they are.
    Either way they come raw, one an anchor, and neither NMS nor a choice of the best 300 is in the network.
    """
    if not known(module):
        return  # another head might need what looks superfluous here
    head = module.model[-1]
    if getattr(head, f"{_SECOND}cv2", None) is not None:
        second = bool(head.end2end)
        for name in [name for name in head._modules if name.startswith(_SECOND)]:
            branch = getattr(head, name)
            delattr(head, name)
            if second:
                setattr(head, name.removeprefix(_SECOND), branch)
        head.end2end = False
    if isinstance(head, Pose26):
        head.flow_model = head.cv4_sigma = None
    if isinstance(getattr(head, "proto", None), Proto26):
        head.proto.semseg = None


def named_outputs(output: Any) -> dict[str, torch.Tensor]:
    """Name what a network gives: one tensor or a pair, perhaps beside the maps that losses take.

    Args:
        output: of a network's forward pass, in eval mode.

    Returns:
        Its raw outputs, by the names that an ONNX file gives them.
    """
    first, *others = output if isinstance(output, (tuple, list)) else (output,)
    if isinstance(first, (tuple, list)):  # ((rows, prototypes), maps)
        first, *others = first
    if others and isinstance(others[0], torch.Tensor) and others[0].dim() == 4:
        return {OUTPUT: first, PROTOTYPES: others[0]}
    return {OUTPUT: first}


def raw_rows(module: nn.Module, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a network's raw output of some inputs.

    Args:
        module: the network, in eval mode.
        inputs: RGB in 0..1; shape (B, 3, H, W).

    Returns:
        (B, 4 + nc + rest, anchors), or a classifier's probabilities, (B, nc).
    """
    with torch.no_grad():
        output = named_outputs(module(torch.from_numpy(inputs)))[OUTPUT]
    return np.asarray(output.numpy(), dtype=np.float32)


def class_scores(output: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the scores within a raw output: (B, nc, anchors) of (B, 4 + nc + rest, anchors); a classifier's whole."""
    return output if output.dim() == 2 else output[:, 4 : 4 + classes]


def all_outputs(head: nn.Module, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return what every last layer of a head gives, those of training included, undecoded.

    Args:
        head: any of `HEADS` but a classifier's.
        inputs: its inputs, from the largest map to the smallest.
    """
    made = []
    for prefix in ("", _SECOND):
        for name in _BRANCHES:
            for i, branch in enumerate(getattr(head, prefix + name, None) or ()):
                features = branch(inputs[i])
                made += [leaf[i](features) for leaf in _leaves(head, prefix, name)] or [features]
    if hasattr(head, "proto"):
        head.proto.training = True  # as in training, it gives the maps of the classes too
        prototypes = head.proto(inputs if isinstance(head.proto, Proto26) else inputs[0])
        made += prototypes if isinstance(prototypes, tuple) else (prototypes,)
    return made


def _leaves(head: nn.Module, prefix: str, branch: str) -> list[nn.ModuleList]:
    leaves = _LEAVES if branch == "cv4" else ()
    return [getattr(head, prefix + leaf) for leaf in leaves if getattr(head, prefix + leaf, None) is not None]


def rows(head: nn.Module) -> int:
    """Return how many values a head gives an anchor: box, scores and what the task adds; or a classifier's classes."""
    if isinstance(head, Classify):
        return int(head.linear.out_features)
    return int(4 + head.nc + sum(getattr(head, added, 0) for added in ("nm", "nk", "ne")))


def last_layers(head: nn.Module, task: str) -> dict[int, str]:
    """Return what the layers give whose widths are set by the task, by the layer's id."""
    return {id(layer): why for layer, why in _last_layers(head, task)}


def constant_layers(module: nn.Module) -> set[int]:
    """Return the ids of a network's layers whose weights are constants."""
    dfl: Any = getattr(module.model[-1], "dfl", None)
    return {id(dfl.conv)} if hasattr(dfl, "conv") else set()


def _last_layers(head: nn.Module, task: str) -> Iterator[tuple[nn.Module, str]]:
    if task == "classify":
        yield head.linear, _GIVES["cv3"]
        return
    gives = _GIVES if hasattr(head, "cv4_kpts") else {**_GIVES, "cv4": _THIRD.get(task, "")}
    for prefix in ("", _SECOND):
        for name, why in gives.items():
            for branch in getattr(head, prefix + name, None) or ():
                yield (branch[-1] if isinstance(branch, nn.Sequential) else branch), why
    if hasattr(head, "proto"):
        yield head.proto.cv3.conv, _PROTOTYPES
        if isinstance(head.proto, Proto26):
            yield head.proto.semseg[-1], _SEMANTICS
    if hasattr(head.dfl, "conv"):
        yield head.dfl.conv, _DFL

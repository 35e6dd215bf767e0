"""Check what a checkpoint says of its network: names, strides, task, keypoints and settings fit each other."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules import Classify, Pose
from ultralytics.nn.tasks import guess_model_task

from slimdeploy.board.text import brief
from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import heads

LARGEST_STRIDE = 1024
_FEW = 16  # values that a message could show
PLANNED_LATENCY = "slimdeploy_planned_latency"  # an attribute of a network, which copies and training carry along
TASKS = (*heads.HEADS, "semantic", "depth")
_ANEW = "train it again, or set the field right with torch and save the checkpoint"


def require_fields(module: nn.Module, path: Path) -> None:
    """Bring a network's fields into one form: `names` by number, `stride` a tensor, `task` a word.

    Raises:
        CheckpointError: a field is missing, of another kind, or does not fit the network.
    """
    layers = getattr(module, "model", None)
    if not isinstance(layers, nn.Sequential) or not len(layers):
        raise _wrong(path, "has no row of layers", "a network that ultralytics built")
    _require_yaml(module.yaml, path)
    _require_args(getattr(module, "args", None), path)
    _require_plan(getattr(module, PLANNED_LATENCY, None), path)
    module.names = dict(enumerate(_names(module.names, path)))
    module.task = _task(module, path)
    strides = _strides(getattr(module, "stride", None), path)
    if not isinstance(module.stride, torch.Tensor):
        module.stride = torch.tensor([float(stride) for stride in strides])
    if heads.known(module):
        _require_head(layers[-1], len(module.names), strides, path)


def _wrong(path: Path, what: str, wanted: str, do: str = _ANEW) -> CheckpointError:
    return CheckpointError(f"{path} {what}", wanted=wanted, do=do)


def _shown(value: Any) -> str:
    """Return a short form of a value that may be of any kind: of layers and tensors the kind alone."""
    if isinstance(value, torch.Tensor) and value.numel() <= _FEW:
        return brief(value.tolist())
    inner = value if isinstance(value, (list, tuple)) else [value]
    plain = all(part is None or isinstance(part, (bool, int, float, str)) for part in inner[:_FEW])
    return brief(value) if plain else f"a {type(value).__name__}"


def _names(names: Any, path: Path) -> list[str]:
    wanted = "one name a class, numbered from 0"
    if not isinstance(names, (dict, list, tuple)) or not names:
        raise _wrong(path, f"has {_shown(names)} for the names of its classes", wanted)
    if isinstance(names, dict):
        odd = [key for key in names if type(key) is not int]
        if odd or sorted(names) != list(range(len(names))):
            key = _shown(odd[0] if odd else max(names))
            raise _wrong(path, f"numbers its {len(names)} classes wrongly (one is {key})", wanted)
        names = [names[number] for number in range(len(names))]
    texts: dict[str, int] = {}
    for number, name in enumerate(names):
        text = str(name) if type(name) is int else name  # a data set may call its classes 0, 1, 2
        if not isinstance(text, str) or not text.strip():
            raise _wrong(path, f"has {_shown(name)} for the name of class {number}", "a text that is not empty")
        first = texts.setdefault(text.strip(), number)
        if first != number:
            raise _wrong(path, f"calls both class {first} and class {number} {brief(text)}", "a different name each")
    return [str(name) for name in names]


def _task(module: nn.Module, path: Path) -> str:
    task = getattr(module, "task", None) or guess_model_task(module)
    if not isinstance(task, str) or task not in TASKS:
        raise _wrong(path, f"is for the task {_shown(task)}", f"one of {', '.join(heads.HEADS)}")
    head = type(module.model[-1])
    fitting = [name for name, kinds in heads.HEADS.items() if head in kinds]
    if fitting and task not in fitting:
        raise _wrong(path, f"is for the task {task!r} and ends in a {head.__name__}", f"the task {fitting[0]!r}")
    return task


def _strides(stride: Any, path: Path) -> list[int]:
    values = stride.flatten().tolist() if isinstance(stride, torch.Tensor) and stride.numel() <= 16 else stride
    wanted = f"the strides of its outputs: whole pixels from 1 to {LARGEST_STRIDE}"
    if not isinstance(values, (list, tuple)) or not 1 <= len(values) <= 16 or not all(map(_is_stride, values)):
        raise _wrong(path, f"has {_shown(stride)} for its stride", wanted)
    return [int(value) for value in values]


def _is_stride(value: Any) -> bool:
    return type(value) in (int, float) and 1 <= value <= LARGEST_STRIDE and value == int(value)


def _require_yaml(yaml: Mapping[Any, Any], path: Path) -> None:
    backbone, file = yaml.get("backbone"), yaml.get("yaml_file", "")
    rows = backbone is None or (isinstance(backbone, list) and all(_is_row(row) for row in backbone))
    if not rows or not isinstance(file, (str, Path)):
        raise _wrong(path, "describes its architecture in another form than ultralytics", "a list of layers")


def _is_row(row: Any) -> bool:
    return isinstance(row, (list, tuple)) and len(row) >= 3 and isinstance(row[2], str)


def _require_args(args: Any, path: Path) -> None:
    values = args if args is None or isinstance(args, Mapping) else getattr(args, "__dict__", args)
    if values is not None and (not isinstance(values, Mapping) or any(type(key) is not str for key in values)):
        raise _wrong(path, f"has {_shown(args)} for its settings (args)", "settings by their names")
    imgsz = (values or {}).get("imgsz")
    sides = imgsz if isinstance(imgsz, (list, tuple)) and 1 <= len(imgsz) <= 2 else [imgsz]
    if imgsz is not None and not all(type(side) is int and 0 < side < 2**16 for side in sides):
        raise _wrong(path, f"was trained at the image size {_shown(imgsz)}", "pixels, as a whole number")


def _require_plan(planned: Any, path: Path) -> None:
    try:
        if planned is None or (isinstance(planned, Mapping) and json.dumps(dict(planned), allow_nan=False)):
            return
    except (TypeError, ValueError):
        pass
    raise _wrong(path, f"holds a plan of its latency ({PLANNED_LATENCY}) in another form", "plain values by name")


def _require_head(head: nn.Module, names: int, strides: Sequence[int], path: Path) -> None:
    """Require that the classes, the strides and the keypoints of a known head are those that the checkpoint tells."""
    for scores in _score_rows(head, path):
        if scores != names:
            raise _wrong(
                path, f"names {names} classes and its head scores {scores}", "one name a class, in the head's order"
            )
    if isinstance(head, Classify):
        return
    if getattr(head, "nc", None) != names:
        raise _wrong(path, f"names {names} classes and its head counts {_shown(getattr(head, 'nc', None))}", "the same")
    own = _strides(getattr(head, "stride", None), path)
    if own != list(strides) or len(own) != getattr(head, "nl", None):
        raise _wrong(path, f"has the strides {list(strides)} and its head {own}", "the same, one for each output")
    if isinstance(head, Pose):
        _require_keypoints(head, path)


def _score_rows(head: nn.Module, path: Path) -> list[int]:
    """Return how many scores each of the head's last layers gives, by their weights."""
    if isinstance(head, Classify):
        return [_rows(getattr(head, "linear", None), path)]
    branches = [getattr(head, name, None) for name in ("cv3", "one2one_cv3")]
    return [_rows(level, path) for branch in branches if branch is not None for level in _levels(branch, path)]


def _levels(branch: Any, path: Path) -> list[Any]:
    if not isinstance(branch, nn.ModuleList):
        raise _wrong(path, "has a head without a branch of scores", "a head that ultralytics built")
    return [level[-1] if isinstance(level, nn.Sequential) and len(level) else level for level in branch]


def _rows(layer: Any, path: Path) -> int:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.dim():
        raise _wrong(path, "has a head whose last layer has no weights", "a head that ultralytics built")
    return int(weight.shape[0])


def keypoint_shape(head: nn.Module) -> tuple[int, int] | None:
    """Return keypoints and values a keypoint of a pose network's head that was checked, or None of another."""
    shape = head.kpt_shape if isinstance(head, Pose) else None
    return None if shape is None else (int(shape[0]), int(shape[1]))


def _require_keypoints(head: nn.Module, path: Path) -> None:
    shape: Any = getattr(head, "kpt_shape", None)
    whole = isinstance(shape, (list, tuple)) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not whole or shape[0] < 1 or shape[1] not in (2, 3):
        raise _wrong(path, f"has {_shown(shape)} for its keypoints (kpt_shape)", "how many, and 2 or 3 values of each")
    if math.prod(shape) != getattr(head, "nk", None):
        raise _wrong(path, f"has {shape[0]} x {shape[1]} keypoint values and a head for another number", "the same")

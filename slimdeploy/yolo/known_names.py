"""Every name that a checkpoint may hold: classes of layers, element types, and what is left out while reading."""

from __future__ import annotations

import functools
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torchvision.transforms.transforms as vision
import ultralytics.nn.modules
import ultralytics.nn.tasks
from torch import nn
from ultralytics.nn import distill_model
from ultralytics.utils import IterableSimpleNamespace

ELEMENTS: Mapping[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DTYPES: Mapping[str, torch.dtype] = {str(dtype): dtype for dtype in ELEMENTS.values()}

# Names of earlier versions, and of other systems, for what is called otherwise now; as ultralytics itself maps them.
_RENAMED = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.yolo.utils.IterableSimpleNamespace": "ultralytics.utils.IterableSimpleNamespace",
}
# Losses, and the hooks of a distillation, which only training needs and makes again: read and left out.
_LEFT_OUT = ("ultralytics.utils.loss.", "ultralytics.utils.tal.", "ultralytics.nn.distill_model.FeatureHook")
_FLAT = "ultralytics.nn.modules."
_PLAIN = (IterableSimpleNamespace, vision.Compose, vision.ToTensor)
_TRANSFORMS = (vision.Resize, vision.CenterCrop, vision.Normalize)


def current(name: str) -> str:
    """Return how a name of an earlier version is called now."""
    return _RENAMED.get(name, name)


def is_left_out(name: str) -> bool:
    """Return whether a class is one that only training needs."""
    return name.startswith(_LEFT_OUT)


def is_from_known_package(name: str) -> bool:
    """Return whether a class that is not known could stand in another version of the modules that hold layers."""
    return name.startswith(("torch.nn.modules.", "ultralytics.nn.modules.", "ultralytics.nn.tasks."))


@functools.cache
def layers() -> Mapping[str, type[nn.Module]]:
    """Return the classes of layers and networks by their full names; all of them are torch's or ultralytics'."""
    found = {f"{module}.{one.__name__}": one for module, one in _classes()}
    flat = {f"{_FLAT}{one.__name__}": one for module, one in _classes() if module.startswith(_FLAT)}
    transforms = {f"{one.__module__}.{one.__name__}": one for one in _TRANSFORMS}
    return {**flat, **found, **transforms}  # before 8.0.91 all of ultralytics' layers were in one module


@functools.cache
def plain_classes() -> Mapping[str, type]:
    """Return classes without numbers that a checkpoint may hold: settings, and a classifier's steps before it."""
    return {f"{one.__module__}.{one.__name__}": one for one in _PLAIN}


def plain_object(name: str) -> Any:
    """Return a new object of such a class, without attributes; its constructor is not called."""
    kind: Any = plain_classes()[name]
    return kind.__new__(kind)


def _classes() -> Iterator[tuple[str, type[nn.Module]]]:
    for name in _modules():
        for one in vars(sys.modules[name]).values():
            if isinstance(one, type) and issubclass(one, nn.Module) and one.__module__ == name:
                yield name, one


def _modules() -> Iterator[str]:
    for package in (nn.modules, ultralytics.nn.modules):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name in sys.modules:  # a file makes nothing import
                yield module.name
    yield ultralytics.nn.tasks.__name__
    yield distill_model.__name__

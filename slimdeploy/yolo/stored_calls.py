"""The calls that a checkpoint stores in place of values: tensors, sets, sizes, numbers, paths; each checks its input.

A value from a file is looked up nowhere before its kind is known, since hashing or comparing some takes for ever.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.transforms.functional import InterpolationMode

from slimdeploy.yolo import known_names
from slimdeploy.yolo.tensors import parameter, tensor
from slimdeploy.yolo.unpickling import require_scalar

_NUMBERS = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))


@dataclass(frozen=True, slots=True)
class Name:
    """Stands for a class or function that a file names; nothing can call it."""

    name: str


class LeftOut:
    """Stands for an object that only training needs."""


class NumberType:
    """Stands for a numpy type while its byte order is not known yet."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="


def name_of(callee: Any) -> str:
    """Return what a `Name` stands for, or raise TypeError for anything else."""
    if type(callee) is not Name:
        raise TypeError(f"a call of a {type(callee).__name__}")
    return callee.name


def _ordered(*args: Any) -> OrderedDict[Any, Any]:
    pairs: list[Any] = list(*args)
    return OrderedDict((require_scalar(key), value) for key, value in pairs)


def _scalars(items: Any) -> set[Any]:
    if type(items) is not list:
        raise TypeError("a set of something that is no list")
    return set(map(require_scalar, items))


def _sizes(sizes: Any) -> torch.Size:
    if type(sizes) not in (tuple, list) or any(type(size) is not int or not 0 <= size < 2**48 for size in sizes):
        raise ValueError("sizes that are no sizes")
    return torch.Size(sizes)


def _latin(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise ValueError("bytes in another encoding")
    return bytes(str.encode(text, "latin1"))


def _number_type(code: Any, *_: Any) -> NumberType:
    if type(code) is not str or code not in _NUMBERS:  # other values may take for ever to look up
        raise ValueError("a numpy type that is no number")
    return NumberType(code)


def _number(of: Any, data: bytes) -> Any:
    if not isinstance(of, NumberType) or of.order not in ("<", ">", "=", "|"):
        raise TypeError("a number of no type")
    (value,) = np.frombuffer(data, np.dtype(f"{of.order}{of.code}"))
    return value.item()


def _attribute(owner: Any, name: Any) -> Any:
    """Return the attributes that stock networks store: a head's `forward`, a fused layer's, a kind of resizing."""
    if type(name) is not str:
        raise TypeError("an attribute without a name")
    if isinstance(owner, nn.Module) and name in ("forward", "forward_fuse"):
        return types.MethodType(getattr(type(owner), name, None), owner)  # type: ignore[arg-type]
    known = name_of(owner)
    if known.startswith("ultralytics.nn.modules.head.") and name == "forward":
        return known_names.layers()[known].forward
    if known == _RESIZING:
        return InterpolationMode[name]
    raise TypeError("an attribute of something else")


def _resizing(value: Any) -> InterpolationMode:
    if type(value) is not str:
        raise TypeError("a kind of resizing without a name")
    return InterpolationMode(value)


def _path(*parts: str) -> str:
    return str(PurePosixPath(*parts))


def _from_type(rebuild: Any, _: Any, args: Any, __: Any) -> Any:
    """Return a tensor that carries attributes, without them."""
    return _TENSORS[name_of(rebuild)](*args)


_RESIZING = "torchvision.transforms.functional.InterpolationMode"
_TENSORS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
}
CALLS: Mapping[str, Callable[..., Any]] = {
    **_TENSORS,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _sizes,
    "torch.device": lambda *_: torch.device("cpu"),
    "collections.OrderedDict": _ordered,
    "builtins.set": _scalars,
    "builtins.getattr": _attribute,
    "_codecs.encode": _latin,
    "numpy.dtype": _number_type,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    _RESIZING: _resizing,
    **{f"{module}.{kind}": _path for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")},
}
TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter")  # named beside a tensor, never made

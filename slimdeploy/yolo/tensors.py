"""Tensors over the numbers that a file holds, never larger than those."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

MOST_DIMENSIONS = 16


@dataclass(slots=True)
class Storage:
    """A row of numbers in a file.

    Attributes:
        dtype: of an element.
        count: how many elements.
        values: the numbers; they may be read after the tensors over them are built. (count,)
        lent: elements of all tensors over it.
    """

    dtype: torch.dtype
    count: int
    values: torch.Tensor = field(repr=False)
    lent: int = 0


def tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, *_: Any
) -> torch.Tensor:
    """Return a view of a storage, as `torch._utils._rebuild_tensor_v2` does.

    Raises:
        TypeError: an argument is of another kind, or the view has hooks.
        ValueError: the view reaches beyond its storage, or holds more elements than it.
    """
    if type(storage) is not Storage or type(requires_grad) is not bool or hooks:
        raise TypeError("a tensor over something that is no storage, or with hooks")
    if type(size) not in (tuple, torch.Size) or type(stride) is not tuple or len(size) != len(stride):
        raise TypeError("a tensor without sizes and strides")
    numbers = (offset, *size, *stride)
    if len(size) > MOST_DIMENSIONS or any(type(n) is not int or not 0 <= n < 2**48 for n in numbers):
        raise ValueError("sizes that are no sizes")
    elements, last = 1, offset
    for length, step in zip(size, stride, strict=True):
        elements *= length
        last += (length - 1) * step
    if elements and (last >= storage.count or elements > storage.count):
        raise ValueError("a tensor beyond its storage")
    storage.lent += elements
    if storage.lent > 2 * storage.count + MOST_DIMENSIONS:  # a network that shares weights uses them twice
        raise ValueError("numbers that are used many times")
    view = torch.empty(0, dtype=storage.dtype)
    view.set_(storage.values.untyped_storage(), offset, size, stride)
    view.requires_grad = requires_grad
    return view


def parameter(data: Any, requires_grad: Any, hooks: Any = None, *_: Any) -> nn.Parameter:
    """Return a parameter over a tensor, as `torch._utils._rebuild_parameter` does.

    Raises:
        TypeError: an argument is of another kind, or the parameter has hooks.
    """
    if not isinstance(data, torch.Tensor) or type(requires_grad) is not bool or hooks:
        raise TypeError("a parameter of something that is no tensor, or with hooks")
    if not data.is_floating_point():
        raise TypeError("a parameter of whole numbers")
    return nn.Parameter(data.detach(), requires_grad)

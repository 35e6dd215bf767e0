"""Bound what a checkpoint unfolds to: a few bytes can refer to one value many times, to itself, or nest for ever."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slimdeploy.yolo import known_names, refusals

DEEPEST = 120  # levels; the deepest stock network has 31, and Python's own copying stops near 450
MOST_VALUES = 4_000_000
MOST_SHARES = 4  # how often all numbers may be used on average; stock networks use each once


@dataclass(slots=True)
class _Extent:
    """What a value unfolds to: all values in it, counted as often as they are referred to.

    Attributes:
        values: how many.
        elements: of its tensors.
        depth: levels below it.
    """

    values: int = 1
    elements: int = 0
    depth: int = 1

    def take_in(self, inner: _Extent) -> None:
        self.values += inner.values
        self.elements += inner.elements
        self.depth = max(self.depth, inner.depth + 1)


def require_bounded(contents: Any, path: Path) -> None:
    """Raise CheckpointError if what a file holds is deeper or larger than any network, or contains itself.

    Afterwards code that recurses through it, as torch's and Python's own does, comes to an end.
    """
    known: dict[int, _Extent] = {}
    distinct = 0
    open_ids: set[int] = set()
    stack = [(contents, iter((contents,)))]  # an outermost level that holds nothing else
    extents = [_Extent()]
    while stack:
        value, rest = stack[-1]
        inner = next(rest, _END)
        if inner is _END:
            stack.pop()
            done = extents.pop()
            if stack:
                open_ids.discard(id(value))
                known[id(value)] = done
                extents[-1].take_in(done)
            continue
        if isinstance(inner, torch.Tensor):
            distinct += 0 if id(inner) in known else inner.numel()
            known.setdefault(id(inner), _Extent(elements=inner.numel()))
        held = _inside(inner)
        if id(inner) in known:
            extents[-1].take_in(known[id(inner)])
        elif held is None:
            extents[-1].values += 1
        elif id(inner) in open_ids:
            raise refusals.beyond(path, "holds a value that contains itself", "a network without cycles")
        else:
            open_ids.add(id(inner))
            stack.append((inner, iter(held)))
            extents.append(_Extent())
        _require(extents[-1], len(stack), path)
    _require_shares(done.elements, distinct, path)


_END = object()


def _inside(value: Any) -> list[Any] | None:
    """Return the values in a value, or None of a plain one."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        return list(value)
    if isinstance(value, nn.Module) or known_names.is_plain_object(value):
        return list(vars(value).values())
    return None


def _require(extent: _Extent, level: int, path: Path) -> None:
    if max(level, extent.depth) > DEEPEST:
        raise refusals.beyond(path, f"nests values more than {DEEPEST} levels deep", f"{DEEPEST} or fewer")
    if extent.values > MOST_VALUES:
        raise refusals.beyond(path, f"unfolds to more than {MOST_VALUES:,} values", f"{MOST_VALUES:,} or fewer")


def _require_shares(elements: int, distinct: int, path: Path) -> None:
    if elements > MOST_SHARES * distinct:
        raise refusals.beyond(path, "uses its numbers many times over", "a network with weights of its own")

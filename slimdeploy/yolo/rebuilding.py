"""Rebuild what a checkpoint stores, out of names and plain values, without a call of anything that the file names."""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import known_names, refusals
from slimdeploy.yolo.stored_calls import CALLS, TYPES, LeftOut, Name, NumberType, name_of
from slimdeploy.yolo.tensors import Storage

MOST_LAYERS = 10_000  # the largest stock network has 767
_HOOKS = "_hooks"
# Attributes that torch gives to layers of its earlier versions while it unpickles them.
_LATER: Mapping[type[nn.Module], Mapping[str, Any]] = {
    nn.Upsample: {"recompute_scale_factor": True},
    nn.Conv2d: {"padding_mode": "zeros"},
    nn.ConvTranspose2d: {"padding_mode": "zeros"},
    nn.MultiheadAttention: {"_qkv_same_embed_dim": True},
}


class Rebuilder:
    """Turns names and plain values into tensors, layers and settings; see `unpickling.Builder`.

    Args:
        open_storage: gives the numbers of a storage that the file describes.
        path: the file, for messages.
    """

    def __init__(self, open_storage: Callable[[torch.dtype, str, int], Storage], path: object) -> None:
        self._open_storage, self._path = open_storage, path
        self._layers = 0

    def find(self, name: str) -> Any:
        """Return an element type, or a `Name` for any other known name."""
        name = known_names.current(name)
        if name in known_names.DTYPES:
            return known_names.DTYPES[name]
        known = (CALLS, TYPES, known_names.ELEMENTS, known_names.layers(), known_names.plain_classes())
        if known_names.is_left_out(name) or any(name in names for names in known):
            return Name(name)
        raise (refusals.absent if known_names.is_from_known_package(name) else refusals.unknown)(self._path, name)

    def call(self, callee: Any, args: Any) -> Any:
        """Return what a stored call of a rebuilding function gives."""
        name = name_of(callee)
        if type(args) is not tuple:
            raise TypeError("arguments that are no tuple")
        if name in CALLS:
            return CALLS[name](*args)
        return self._made(name, args)

    def new(self, callee: Any, args: Any) -> Any:
        """Return a new object of a stored class, which gets its state from `build`."""
        return self._made(name_of(callee), args)

    def _made(self, name: str, args: Any) -> Any:
        if known_names.is_left_out(name):
            return LeftOut()
        if args != ():
            raise refusals.called(self._path, name)
        if name in known_names.plain_classes():
            plain: Any = known_names.plain_classes()[name]
            return plain.__new__(plain)
        if name not in known_names.layers():
            raise refusals.called(self._path, name)
        self._layers += 1
        if self._layers > MOST_LAYERS:
            raise refusals.beyond(self._path, f"holds more than {MOST_LAYERS:,} layers", f"{MOST_LAYERS:,} or fewer")
        return object.__new__(known_names.layers()[name])

    def build(self, target: Any, state: Any) -> None:
        """Give an object its attributes; no class's own way of taking them is called but that of all layers."""
        if isinstance(target, (LeftOut, nn.Parameter)):
            return
        if isinstance(target, NumberType):
            target.order = state[1]
            return
        if type(state) is not dict or any(type(key) is not str for key in state):
            raise TypeError("attributes that are no dictionary of names")
        if isinstance(target, OrderedDict):
            return  # torch notes versions on the dictionary of a network's weights
        if any(key.startswith("__") for key in state):
            raise refusals.called(self._path, next(key for key in state if key.startswith("__")))
        if isinstance(target, nn.Module):
            self._build_layer(target, state)
        elif type(target) in known_names.plain_classes().values():
            vars(target).update(state)
        else:
            raise TypeError(f"attributes for a {type(target).__name__}")

    def _build_layer(self, layer: nn.Module, state: dict[str, Any]) -> None:
        for key, value in state.items():
            _require_attribute(layer, key, value, self._path)
        kept = {key: value for key, value in state.items() if not isinstance(value, LeftOut)}
        kept |= {key: OrderedDict() for key in kept if key.endswith(_HOOKS)}
        kept = {**_LATER.get(type(layer), {}), **kept}
        kept.pop("_compiled_call_impl", None)
        for key, held in (("_parameters", nn.Parameter), ("_buffers", torch.Tensor), ("_modules", nn.Module)):
            kept[key] = _held(kept[key], held)
        nn.Module.__setstate__(layer, kept)

    def storage(self, record: Any) -> Any:
        """Return the storage that a persistent id describes; older files describe classes in the same way."""
        if type(record) is not tuple or not record:
            raise TypeError("a persistent id that is no tuple")
        if record[0] == "module":
            return record[1]
        kind, of, key, _, count = record[:5]
        if kind != "storage" or type(key) is not str or type(count) is not int or any(record[5:]):
            raise TypeError("a persistent id of another form")
        return self._open_storage(known_names.ELEMENTS[name_of(of)], key, count)


def _require_attribute(layer: nn.Module, key: str, value: Any, path: object) -> None:
    """Refuse an attribute that would stand in the place of a method, or that is a class or function."""
    own = getattr(type(layer), key, None)
    if type(value) is Name:
        raise refusals.called(path, value.name)
    if isinstance(own, types.FunctionType | types.MethodType) and not _is_stock(layer, key, value):
        raise CheckpointError(
            f"{path} replaces {type(layer).__name__}.{key} by a stored {type(value).__name__}",
            wanted="a checkpoint that ultralytics wrote",
            do=refusals.TRUST,
        )
    if key.endswith(_HOOKS) and (not isinstance(value, dict) or any(type(v) is not LeftOut for v in value.values())):
        raise TypeError("hooks on a layer")


def _is_stock(layer: nn.Module, key: str, value: Any) -> bool:
    """Return whether ultralytics itself puts this in a method's place: a layer's type, or its fused `forward`."""
    if key == "type":
        return type(value) is str
    return key == "forward" and isinstance(value, types.MethodType) and value.__self__ is layer


def _held(held: Any, kind: type) -> dict[str, Any]:
    """Return what torch keeps of a layer: a dictionary of its parameters, its buffers or its layers."""
    if not isinstance(held, dict):
        raise TypeError(f"{kind.__name__}s that are no dictionary")
    kept: dict[str, Any] = type(held)((key, value) for key, value in held.items() if not isinstance(value, LeftOut))
    for key, value in kept.items():
        if type(key) is not str or not key or "." in key or not (value is None or isinstance(value, kind)):
            raise TypeError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return kept

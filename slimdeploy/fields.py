"""Check that the fields of a dataclass hold what its annotations say: one rule for settings, records and targets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError

LARGEST_INT = 2**63 - 1  # beyond it, numpy, torch and databases fail in ways of their own


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A value that does not fit: where below the one that was checked, what it is, and what was wanted."""

    place: str
    value: Any
    wanted: str

    @property
    def wrong(self) -> str:
        """Where the value stands and what it is, in a few words."""
        out_of_range = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        return f"{self.place} is {brief(self.value)}{'' if out_of_range else ', of the wrong type'}"


def hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields, by name."""
    if kind not in _HINTS:
        known = get_type_hints(kind)
        _HINTS[kind] = {field.name: known[field.name] for field in dataclasses.fields(kind)}
    return _HINTS[kind]


_HINTS: dict[Any, dict[str, Any]] = {}  # resolving them takes longer than checking a record


def require(record: Any, where: str = "") -> None:
    """Check every field of a dataclass, and of the dataclasses in it.

    Args:
        record: the dataclass.
        where: what to put in front of a field's name in the message.

    Raises:
        UsageError: a field holds something else than its annotation says; the message names it.
    """
    for name, hint in hints(type(record)).items():
        if found := mismatch(hint, getattr(record, name), f"{where}{name}"):
            raise UsageError(found.wrong, wanted=found.wanted)


def mismatch(hint: Any, value: Any, place: str = "") -> Mismatch | None:
    """Return where a value is not of a type, or None where it is.

    A list may stand for a tuple, as in JSON. Numbers must be finite, and whole ones fit into 64 bits.
    """
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, place)
    if hint in _PLAIN:
        wanted, fits = _PLAIN[hint]
        return None if fits(value) else Mismatch(place=place, value=value, wanted=wanted)
    return _COMPOSED[get_origin(hint)](get_args(hint), value, place)


def _record(hint: Any, value: Any, place: str) -> Mismatch | None:
    if not isinstance(value, hint):
        return Mismatch(place=place, value=value, wanted=f"a {hint.__name__} of its own settings")
    below = f"{place}." if place else ""
    checked = (mismatch(one, getattr(value, name), f"{below}{name}") for name, one in hints(hint).items())
    return next((found for found in checked if found), None)


def _any_of(parts: tuple[Any, ...], value: Any, place: str) -> Mismatch | None:
    found = [mismatch(part, value, place) for part in parts]
    if None in found:
        return None
    known = [one for one, part in zip(found, parts, strict=True) if one and part is not NoneType]
    deeper = next((one for one in known if one.place != place), None)  # the right kind, and something wrong in it
    wanted = " or ".join(dict.fromkeys(one.wanted for one in known))
    return deeper or Mismatch(place=place, value=value, wanted=wanted)


def _tuple(parts: tuple[Any, ...], value: Any, place: str) -> Mismatch | None:
    if not isinstance(value, (tuple, list)):
        return Mismatch(place=place, value=value, wanted="a list")
    any_number = len(parts) == 2 and parts[1] is Ellipsis
    if not any_number and len(value) != len(parts):
        return Mismatch(place=place, value=value, wanted=f"a list of {len(parts)}")
    of_each = [parts[0]] * len(value) if any_number else parts
    checked = (
        mismatch(part, one, f"{place}[{position}]")
        for position, (part, one) in enumerate(zip(of_each, value, strict=True))
    )
    return next((found for found in checked if found), None)


def _mapping(parts: tuple[Any, ...], value: Any, place: str) -> Mismatch | None:
    if not isinstance(value, Mapping):
        return Mismatch(place=place, value=value, wanted="a table")
    of_key, of_value = parts
    for key, one in value.items():
        found = mismatch(of_key, key, f"a key of {place}") or mismatch(of_value, one, f"{place}.{key}")
        if found:
            return found
    return None


def _literal(parts: tuple[Any, ...], value: Any, place: str) -> Mismatch | None:
    fits = isinstance(value, str) and value in parts
    return None if fits else Mismatch(place=place, value=value, wanted=f"one of {', '.join(map(repr, parts))}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INT


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float can hold; true and false are none."""
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


_PLAIN: Mapping[Any, tuple[str, Callable[[Any], bool]]] = {
    Any: ("", lambda _: True),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_int),
    float: ("a finite number", is_number),
    str: ("a text", lambda value: isinstance(value, str)),
    NoneType: ("nothing", lambda value: value is None),
}
_COMPOSED: Mapping[Any, Callable[[tuple[Any, ...], Any, str], Mismatch | None]] = {
    Union: _any_of,
    UnionType: _any_of,
    tuple: _tuple,
    Literal: _literal,
    Mapping: _mapping,
    dict: _mapping,
}

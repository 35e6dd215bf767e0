"""Check a JSON object against a published schema: the part of JSON Schema that our schemas use, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.fields import is_number

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and is_number(value),
    "number": is_number,
}


def problems(value: Any, schema: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Give a sentence for everything in which a value departs from a schema.

    Args:
        value: parsed JSON.
        schema: a JSON Schema made of type, const, enum, pattern, minimum, properties, required,
            additionalProperties, propertyNames.pattern, items, minItems and maxItems.
        where: path of the value, such as `input.shape`.
    """
    shown = where or "the whole"
    if not _TYPES[schema["type"]](value):
        yield f"{shown} is {brief(value)} and not of the type {schema['type']}"
    elif isinstance(value, dict):
        yield from _object_problems(value, schema, where)
    elif isinstance(value, list):
        yield from _array_problems(value, schema, where)
    else:
        yield from _scalar_problems(value, schema, shown)


def _object_problems(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    name_pattern = schema.get("propertyNames", {}).get("pattern", "")
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{_join(where, key)} is missing"
    for key, one in value.items():
        if not _matches(name_pattern, key):
            yield f"{_join(where, key)} has a name that is not allowed"
        if key in known:
            yield from problems(one, known[key], _join(where, key))
        elif others is False:
            yield f"{_join(where, key)} is not known"
        elif isinstance(others, dict):
            yield from problems(one, others, _join(where, key))


def _array_problems(value: list[Any], schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{where} has {len(value)} entries"
    if "items" in schema:
        for position, one in enumerate(value):
            yield from problems(one, schema["items"], f"{where}[{position}]")


def _scalar_problems(value: Any, schema: Mapping[str, Any], shown: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{shown} is {brief(value)} and not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{shown} is {brief(value)} and none of {', '.join(map(repr, schema['enum']))}"
    if "pattern" in schema and not _matches(schema["pattern"], value):
        yield f"{shown} is {brief(value)} and not of the form {schema['pattern']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{shown} is {value!r} and below {schema['minimum']}"


def _matches(pattern: str, text: str) -> bool:
    """Return whether a text has a form; in JSON Schema `$` is the end alone, and not a line end before it."""
    return re.search(pattern, text) is not None and not (pattern.endswith("$") and text.endswith("\n"))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key

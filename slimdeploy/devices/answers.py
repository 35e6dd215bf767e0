"""What a board may answer: each answer is checked, and its texts escaped, before anything here uses it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from slimdeploy.board.text import printable

DEEPEST = 32
LONGEST_TEXT = 100_000
_HASH = re.compile(r"[0-9a-f]{64}\Z")

Shape = (
    Any  # a type, None, a predicate, (one of, several), [of each entry], {key: of its value} or {str: of every value}
)


def is_number(value: Any) -> bool:
    """Return whether a value is a number that arithmetic can take."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18


def is_positive(value: Any) -> bool:
    """Return whether a value is a number above 0."""
    return is_number(value) and value > 0


def is_size(value: Any) -> bool:
    """Return whether a value is a number of bytes, or of anything else that is counted."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def is_hash(value: Any) -> bool:
    """Return whether a value names a release."""
    return isinstance(value, str) and _HASH.match(value) is not None


def are_samples(value: Any) -> bool:
    """Return whether a value is a list of one or more durations."""
    return isinstance(value, list) and bool(value) and all(map(is_positive, value))


class Optional:
    """A key that may be left out."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape


SERVICE = {"unit": str, "system": bool, "source": (str, None), "active": bool}
RELEASE = {
    "release": is_hash,
    "current": bool,
    "model": Optional({"name": str, "file": str, "precision": str}),
    "target": Optional(str),
    "wrong": Optional(str),
}
MEASUREMENT = {
    "artifact": str,
    "sha256": str,
    "backend": str,
    "scope": str,
    "threads": is_size,
    "batch": is_size,
    "samples_s": are_samples,
    "load_s": is_number,
    "first_s": is_number,
    "warmup_s": [is_number],
    "rounds": [is_size],
    "peak_memory_mib": (is_number, None),
    "environment": dict,
    "warnings": [str],
}
ANSWERS: Mapping[str, Shape] = {
    "ping": {},
    "forget": {},
    "look": {
        "root": str,
        "current": (is_hash, None),
        "previous": (is_hash, None),
        "releases": [RELEASE],
        "free_bytes": is_size,
        "board": {"model": (str, None), "compatible": [str], "parts": [str]},
        "tensorrt": (str, None),
        "simulated": bool,
        "clock_s": is_number,
        "python": str,
        "rsync": bool,
        "signers": (str, None),
        "service": (SERVICE, None),
    },
    "begin": {"present": bool, "received": {str: is_size}, "folder": str},
    "stage": {"release": is_hash, "signed_by": (str, None), "build": dict, "check": dict},
    "activate": {"current": is_hash, "previous": (is_hash, None), "removed": [is_hash]},
    "rollback": {
        "current": is_hash,
        "previous": (is_hash, None),
        "damaged": [{"release": is_hash, "wrong": str}],
    },
    "prune": {"removed": [str], "freed_bytes": is_size, "current": (is_hash, None)},
    "bench": {
        "simulated": bool,
        "graph": Optional(str),
        "measurement": MEASUREMENT,
        "telemetry": {"mean_power_mw": (is_number, None), "samples": Optional([dict])},
    },
    "time": {"samples_s": are_samples, "backend": str, "version": str, "threads": is_size},
    "install_service": {"service": (SERVICE, None), "warnings": [str]},
    "remove_service": {"removed": str},
}
ERROR = {"error": str, "wrong": str, "wanted": str, "do": str}


def parse(line: bytes, do: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a board's answer to a request, its texts printable.

    Args:
        line: as it came.
        do: what was asked for.
        request: the arguments of what was asked for.

    Raises:
        ValueError: it is none; the message says in a few words why.
    """
    try:
        answer = _escaped(json.loads(line.decode("utf-8"), parse_constant=_no_number), 0)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(answer, dict):
        raise ValueError("it is no JSON object")
    if wrong := problem(answer, ERROR if "error" in answer else ANSWERS[do], "it"):
        raise ValueError(wrong)
    if do == "begin" and "error" not in answer:
        _require_place(answer["folder"], request["name"])
    return answer


def _require_place(folder: str, name: str) -> None:
    """Raise ValueError unless files would go where a release comes in."""
    if not folder.startswith("/") or not folder.endswith(f"/staging/{name}/bundle"):
        raise ValueError(f"its folder is {folder[:200]}")


def problem(value: Any, shape: Shape, where: str) -> str:
    """Return in what a value departs from a shape, or ""."""
    if isinstance(shape, tuple):
        return "" if any(not problem(value, one, where) for one in shape) else f"{where} {_is(value)}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} {_is(value)}"
        return next((wrong for one in value if (wrong := problem(one, shape[0], f"an entry of {where}"))), "")
    if isinstance(shape, dict):
        return _table_problem(value, shape, where)
    if isinstance(shape, type):
        return "" if isinstance(value, shape) else f"{where} {_is(value)}"
    holds: Callable[[Any], bool] = shape if shape is not None else lambda value: value is None
    return "" if holds(value) else f"{where} {_is(value)}"


def _table_problem(value: Any, shape: Mapping[Any, Shape], where: str) -> str:
    if not isinstance(value, dict):
        return f"{where} {_is(value)}"
    if str in shape:
        return next(
            (wrong for one in value.values() if (wrong := problem(one, shape[str], f"an entry of {where}"))), ""
        )
    for key, one in shape.items():
        if key not in value:
            if not isinstance(one, Optional):
                return f"{where} has no {key!r}"
            continue
        if wrong := problem(value[key], one.shape if isinstance(one, Optional) else one, f"{key!r} of {where}"):
            return wrong
    return ""


def _is(value: Any) -> str:
    return f"is {json.dumps(value)[:80]}"


def _escaped(value: Any, deep: int) -> Any:
    """Return a JSON value whose texts hold no control character; raise ValueError for what no board of ours says."""
    if deep > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise ValueError("a text in it is too long")
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number in it is too large")
    if isinstance(value, list):
        return [_escaped(one, deep + 1) for one in value]
    if isinstance(value, dict):
        return {printable(key): _escaped(one, deep + 1) for key, one in value.items()}
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"it holds {text}")

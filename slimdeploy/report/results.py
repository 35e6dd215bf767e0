"""Check the results in a run.json that reports draw or quote, so that what shows them need not ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError
from slimdeploy.fields import is_number, mismatch

Shape = Mapping[str, Any]  # the type of each key; those of OPTIONAL may be missing

LATENCY: Shape = {
    "estimated": bool, "asked_ms": float, "target": str, "speedup": float, "source": str,
    "measured_ms": tuple[float, ...] | None,
}  # fmt: skip
SENSITIVITY: Shape = {
    "groups": tuple[str, ...], "positives": tuple[int, int], "damage": float, "width": int, "tried": int,
}  # fmt: skip
FIT: Shape = {"layers": tuple[Mapping[str, Any], ...], "images": int}
FITTED: Shape = {"before": float, "after": float}
EPOCH: Shape = {
    "loss": Mapping[str, Any], "scales": Mapping[str, Any], "scale_histogram": tuple[int, ...] | None, "epoch": int,
}  # fmt: skip
SCORES = ("map50", "map50_95")
OPTIONAL = frozenset({"measured_ms", *EPOCH})


def require_results(results: Mapping[str, Any]) -> None:
    """Raise UsageError where a result that is shown is of another form than the stages write."""
    if latency := results.get("latency"):
        _require(latency, LATENCY, "results.latency")
    for place, one in enumerate(_list(results, "sensitivities")):
        _require(one, SENSITIVITY, f"results.sensitivities[{place}]")
        if not one["groups"]:
            raise UsageError(f"results.sensitivities[{place}] names no group", wanted="one or more")
    if fit := results.get("fit"):
        _require(fit, FIT, "results.fit")
        if not fit["layers"]:
            raise UsageError("results.fit names no layer", wanted="one or more")
        for place, one in enumerate(fit["layers"]):
            _require(one, FITTED, f"results.fit.layers[{place}]")
    _require_history(results)


def _require_history(results: Mapping[str, Any]) -> None:
    edges = _list(results, "scale_edges")
    if found := mismatch(tuple[float, ...], edges, "results.scale_edges"):
        raise UsageError(found.wrong, wanted=found.wanted)
    for place, epoch in enumerate(_list(results, "history")):
        _require(epoch, EPOCH, f"results.history[{place}]")
        counts = epoch.get("scale_histogram")
        if counts and edges and len(counts) != len(edges) - 1:
            raise UsageError(f"results.history[{place}].scale_histogram has {len(counts)} bins", wanted="one an edge")
        figures = {**epoch.get("loss", {}), **epoch.get("scales", {}), **{key: epoch.get(key) for key in SCORES}}
        for name, value in figures.items():  # a loss may have been NaN or infinite before training was put right
            if not (value is None or isinstance(value, (str, float)) or is_number(value)):
                raise UsageError(f"results.history[{place}].{name} is {brief(value)}", wanted="a number")


def _list(results: Mapping[str, Any], key: str) -> list[Any]:
    value = results.get(key) or []
    if not isinstance(value, list):
        raise UsageError(f"results.{key} is no list", wanted="a list")
    return value


def _require(value: Any, shape: Shape, place: str) -> None:
    if not isinstance(value, Mapping):
        raise UsageError(f"{place} is no table", wanted=f"{', '.join(shape)}")
    for key, hint in shape.items():
        if key not in value:
            if key in OPTIONAL:
                continue
            raise UsageError(f"{place} lacks {key}", wanted=f"{', '.join(shape)}")
        if found := mismatch(hint, value[key], f"{place}.{key}"):
            raise UsageError(found.wrong, wanted=found.wanted)

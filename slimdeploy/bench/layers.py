"""Time of each layer, from the runtime's own profiler: shares of the time by layer and by operator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slimdeploy.backends.protocol import Backend, Tensors
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.records import Artifact, LayerTime


def require_profiler(backend: Backend) -> None:
    """Raise UsageError unless the runtime has a profiler."""
    if getattr(backend, "profile", None) is None:
        raise UsageError(
            f"the backend {backend.name} has no profiler", wanted="onnxruntime or openvino", do="leave --profile out"
        )


def layer_times(
    backend: Backend, artifact: Artifact, feeds: Tensors, *, threads: int, calls: int
) -> tuple[LayerTime, ...]:
    """Return the time of each layer, in the order that they run.

    Raises:
        UsageError: the runtime has no profiler.
    """
    require_profiler(backend)
    profile: Any = backend
    return tuple(profile.profile(artifact, feeds, threads=threads, calls=calls))


def by_operator(layers: Sequence[LayerTime]) -> list[tuple[str, int, float]]:
    """Return each operator with its number of layers and its share of the time, in 0..1, the largest first."""
    total_s = sum(layer.seconds for layer in layers)
    found: dict[str, list[float]] = {}
    for layer in layers:
        found.setdefault(layer.operator, []).append(layer.seconds)
    shares = [(operator, len(own), sum(own) / total_s if total_s else 0.0) for operator, own in found.items()]
    return sorted(shares, key=lambda one: -one[2])


def parse_trtexec(profile: Any, layers: Any = None) -> tuple[LayerTime, ...]:
    """Return the layers of what `trtexec --exportProfile` wrote.

    Args:
        profile: its JSON: an array, whose first element counts the calls and whose others are layers.
        layers: the JSON of `--exportLayerInfo`, which brings operators and widths; None leaves them out.

    Raises:
        ArtifactError: the JSON is no profile of trtexec.
    """
    known = _layer_info(layers)
    try:
        entries = [entry for entry in profile if "count" not in entry]
        return tuple(
            LayerTime(
                name=entry["name"],
                operator=known.get(entry["name"], ("", None))[0],
                seconds=float(entry["averageMs"]) / 1000,
                width=known.get(entry["name"], ("", None))[1],
            )
            for entry in entries
        )
    except (TypeError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"this is no profile of trtexec: {error!r}", wanted="what trtexec --exportProfile=FILE writes"
        ) from error


def _layer_info(layers: Any) -> dict[str, tuple[str, int | None]]:
    """Operators and widths by the layer's name; without --profilingVerbosity=detailed there are names alone."""
    entries: Iterable[Any] = layers.get("Layers", []) if isinstance(layers, Mapping) else []
    found: dict[str, tuple[str, int | None]] = {}
    for entry in entries:
        if isinstance(entry, Mapping) and "Name" in entry:
            outputs = entry.get("Outputs") or [{}]
            shape = outputs[0].get("Dimensions", []) if isinstance(outputs[0], Mapping) else []
            found[str(entry["Name"])] = (str(entry.get("LayerType", "")), int(shape[1]) if len(shape) > 1 else None)
    return found

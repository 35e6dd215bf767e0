"""Time of each layer, from the runtime's own profiler: shares of the time by layer and by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slimdeploy.backends.protocol import Backend, Tensors
from slimdeploy.errors import UsageError
from slimdeploy.records import Artifact, LayerTime


def require_profiler(backend: Backend) -> None:
    """Raise UsageError unless the runtime has a profiler."""
    if getattr(backend, "profile", None) is None:
        raise UsageError(
            f"the backend {backend.name} has no profiler",
            wanted="onnxruntime, openvino or tensorrt",
            do="leave --profile out",
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

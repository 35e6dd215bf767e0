"""OpenVINO on the CPU: opens .onnx directly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino

from slimdeploy._cores import usable_cores
from slimdeploy.backends.protocol import Tensors
from slimdeploy.errors import ArtifactError
from slimdeploy.records import Artifact, LayerTime

_REFUSALS = (RuntimeError, ValueError, TypeError)  # OpenVINO's own errors are RuntimeErrors


class OpenVinoSession:
    """An infer request of a compiled model; a model that is opened once has a single one."""

    def __init__(self, compiled: Any, path: str) -> None:
        self._path = path
        try:
            self._request = compiled.create_infer_request()
            self._outputs = {port: port.get_any_name() for port in compiled.outputs}
        except _REFUSALS as error:
            raise ArtifactError(f"{path} does not run in OpenVINO: {_last_line(error)}") from error

    def run(self, feeds: Tensors) -> Tensors:
        """Return the outputs by name; see `protocol.Session`."""
        try:
            results = self._request.infer(feeds)
        except _REFUSALS as error:
            raise ArtifactError(f"{self._path} does not run in OpenVINO: {_last_line(error)}") from error
        return {name: results[port] for port, name in self._outputs.items()}

    def close(self) -> None:
        """Give back the model's memory and threads."""
        self._request = None
        self._outputs = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVino:
    """Opens .onnx files with OpenVINO's CPU plug-in."""

    name: str = "openvino"
    formats: frozenset[str] = frozenset({"onnx"})
    version: str = openvino.__version__
    parallel: bool = True

    def open(self, artifact: Artifact, *, threads: int = 0) -> OpenVinoSession:
        """Load a model; see `protocol.Backend`."""
        return OpenVinoSession(self._compile(artifact, _settings(threads or usable_cores())), artifact.path)

    def open_several(self, artifact: Artifact, *, count: int, threads: int) -> list[OpenVinoSession]:
        """Load a model once and give several sessions of it, a stream each; see `protocol.Backend`."""
        settings = _settings(count * threads) | {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": count}
        compiled = self._compile(artifact, settings)
        return [OpenVinoSession(compiled, artifact.path) for _ in range(count)]

    def profile(self, artifact: Artifact, feeds: Tensors, *, threads: int, calls: int) -> list[LayerTime]:
        """Return the mean time of each node over some calls, in the order that they run; the first call is left out."""
        compiled = self._compile(artifact, _settings(threads or usable_cores()) | {"PERF_COUNT": True})
        widths = {node.get_friendly_name(): _width(node) for node in compiled.get_runtime_model().get_ordered_ops()}
        request = compiled.create_infer_request()
        taken: dict[str, tuple[str, list[float]]] = {}
        for call in range(calls + 1):
            try:
                request.infer(feeds)
            except _REFUSALS as error:
                raise ArtifactError(f"{artifact.path} does not run in OpenVINO: {_last_line(error)}") from error
            if not call:
                continue
            for node in request.profiling_info:
                if (seconds := node.real_time.total_seconds()) > 0:  # a node that was folded away took no time
                    taken.setdefault(node.node_name, (node.node_type, []))[1].append(seconds)
        return [
            LayerTime(name=name, operator=operator, seconds=sum(found) / calls, width=widths.get(name))
            for name, (operator, found) in taken.items()
        ]

    def _compile(self, artifact: Artifact, settings: dict[str, Any]) -> Any:
        if not Path(artifact.path).is_file():
            raise ArtifactError(f"no model at {artifact.path}", wanted="an .onnx file")
        core = openvino.Core()
        try:
            return core.compile_model(core.read_model(artifact.path), "CPU", settings)
        except _REFUSALS as error:
            raise ArtifactError(
                f"{artifact.path} cannot be opened by OpenVINO {openvino.__version__}: {_last_line(error)}",
                wanted="a whole .onnx file",
                do="export it again with slimdeploy export",
            ) from error


def _width(node: Any) -> int | None:
    """Channels of a node's output, or None where it has none or the shape is not static."""
    shape = node.output(0).get_partial_shape() if node.get_output_size() else None
    if shape is None or shape.is_dynamic or len(shape) < 2:
        return None
    return int(shape[1].get_length())


def _settings(threads: int) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Left alone, OpenVINO computes an fp32 graph in bfloat16 where the CPU can. The precision is the graph's.
        "INFERENCE_PRECISION_HINT": "f32",
    }


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

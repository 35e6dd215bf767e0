"""ONNX Runtime: on the CPU, the embedded default, and with its CUDA and TensorRT providers where they are there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as foreign

from slimdeploy._cores import usable_cores
from slimdeploy.backends.protocol import Tensors
from slimdeploy.errors import ArtifactError, MissingDependency
from slimdeploy.files import MALFORMED
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Artifact, LayerTime

_KERNEL = "_kernel_time"  # what ONNX Runtime's profiler adds to the name of a node
_ERRORS = 3  # ONNX Runtime's severities: 0 verbose to 4 fatal
_FOREIGN = [v for v in vars(foreign).values() if isinstance(v, type) and issubclass(v, Exception)]
_REFUSALS: tuple[type[Exception], ...] = (*_FOREIGN, ValueError, RuntimeError)


class OnnxRuntimeSession:
    """One loaded ONNX model."""

    def __init__(self, session: Any, path: str) -> None:
        self._session, self._path = session, path
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Tensors) -> Tensors:
        """Return the outputs by name; see `protocol.Session`."""
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))
        except _REFUSALS as error:
            raise ArtifactError(f"{self._path} does not run in ONNX Runtime: {_first_line(error)}") from error

    def close(self) -> None:
        """Give back the model's memory and threads."""
        self._session = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntime:
    """Opens .onnx files with ONNX Runtime.

    Attributes:
        providers: execution providers, the one asked for first; the others take what it does not.
    """

    name: str = "onnxruntime"
    formats: frozenset[str] = frozenset({"onnx"})
    version: str = onnxruntime.__version__
    parallel: bool = True
    providers: tuple[str, ...] = ("CPUExecutionProvider",)

    def open(self, artifact: Artifact, *, threads: int = 0) -> OnnxRuntimeSession:
        """Load a model; see `protocol.Backend`."""
        return OnnxRuntimeSession(self._load(artifact, _options(threads or usable_cores())), artifact.path)

    def profile(self, artifact: Artifact, feeds: Tensors, *, threads: int, calls: int) -> list[LayerTime]:
        """Return the mean time of each node over some calls, in the order that they run; the first call is left out."""
        options = _options(threads or usable_cores())
        options.enable_profiling = True
        with scratch_folder() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._load(artifact, options)
            try:
                for _ in range(calls + 1):
                    session.run(None, dict(feeds))
                events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8", errors="replace"))
                return _layer_times(events)
            except (*_REFUSALS, *MALFORMED) as error:
                raise ArtifactError(f"{artifact.path} cannot be profiled: {_first_line(error)}") from error

    def _load(self, artifact: Artifact, options: Any) -> Any:
        if not Path(artifact.path).is_file():
            raise ArtifactError(f"no model at {artifact.path}", wanted="an .onnx file")
        wanted = self.providers[0]
        if wanted not in onnxruntime.get_available_providers():
            raise _without(wanted)
        try:
            session = onnxruntime.InferenceSession(artifact.path, options, providers=list(self.providers))
        except _REFUSALS as error:
            raise ArtifactError(
                f"{artifact.path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {_first_line(error)}",
                wanted="a whole .onnx file",
                do="export it again with slimdeploy export",
            ) from error
        if wanted not in session.get_providers():  # ONNX Runtime goes on without a provider that does not load
            raise _without(wanted)
        return session


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntimeCuda(OnnxRuntime):
    """Opens .onnx files with ONNX Runtime's CUDA provider."""

    name: str = "onnxruntime-cuda"
    parallel: bool = False
    providers: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRuntimeTensorRt(OnnxRuntime):
    """Opens .onnx files with ONNX Runtime's TensorRT provider, which builds an engine at every opening."""

    name: str = "onnxruntime-tensorrt"
    parallel: bool = False
    providers: tuple[str, ...] = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def _without(provider: str) -> MissingDependency:
    return MissingDependency(
        f"this ONNX Runtime works without the {provider}",
        wanted=f"one of {', '.join(onnxruntime.get_available_providers())}",
        do="pip install onnxruntime-gpu in place of onnxruntime, on a machine with NVIDIA's driver, CUDA and cuDNN",
    )


def _layer_times(events: Sequence[Mapping[str, Any]]) -> list[LayerTime]:
    """Return the layers in the events of ONNX Runtime's profiler; the first event of each node is left out."""
    nodes: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_KERNEL):
            nodes.setdefault(event["name"].removesuffix(_KERNEL), []).append(event)
    return [
        LayerTime(
            name=name,
            operator=found[0]["args"]["op_name"],
            seconds=fmean(event["dur"] for event in found[1:] or found) / 1e6,
            width=_width(found[0]["args"].get("output_type_shape")),
        )
        for name, found in nodes.items()
    ]


def _width(outputs: Sequence[Mapping[str, Sequence[int]]] | None) -> int | None:
    shapes = [shape for output in outputs or () for shape in output.values()]
    return int(shapes[0][1]) if shapes and len(shapes[0]) > 1 else None


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS
    # Threads still spin inside a call, which is quickest, but not after it, where they would steal time from others.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

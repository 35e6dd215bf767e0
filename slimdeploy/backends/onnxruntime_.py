"""ONNX Runtime on the CPU: the embedded default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as foreign

from slimdeploy._cores import usable_cores
from slimdeploy.backends.protocol import Tensors
from slimdeploy.errors import ArtifactError
from slimdeploy.records import Artifact

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
    """Opens .onnx files with ONNX Runtime's CPU provider."""

    name: str = "onnxruntime"
    formats: frozenset[str] = frozenset({"onnx"})
    version: str = onnxruntime.__version__
    parallel: bool = True

    def open(self, artifact: Artifact, *, threads: int = 0) -> OnnxRuntimeSession:
        """Load a model; see `protocol.Backend`."""
        if not Path(artifact.path).is_file():
            raise ArtifactError(f"no model at {artifact.path}", wanted="an .onnx file")
        try:
            session = onnxruntime.InferenceSession(
                artifact.path, _options(threads or usable_cores()), providers=["CPUExecutionProvider"]
            )
        except _REFUSALS as error:
            raise ArtifactError(
                f"{artifact.path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {_first_line(error)}",
                wanted="a whole .onnx file",
                do="export it again with slimdeploy export",
            ) from error
        return OnnxRuntimeSession(session, artifact.path)


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

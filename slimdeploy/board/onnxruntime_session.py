"""ONNX Runtime: where that is what the machine has, so that the whole agent also runs on an ordinary computer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slimdeploy.board.errors import ArtifactError, DeviceError

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats
    from slimdeploy.board.bundle import Bundle

BLOCKS = "4"  # parts of a layer for each thread, as ONNX Runtime's documentation advises
_ERRORS = 3  # ONNX Runtime's severities: 0 verbose to 4 fatal


class OnnxRuntimeSession:
    """One loaded ONNX model; see `sessions.Session`."""

    runtime = "onnxruntime"
    fresh = True

    def __init__(self, session: Any, version: str, path: str) -> None:
        self.version = version
        self.graph = Path(path).name
        self._session, self._path = session, path
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(self, input_nchw: Floats) -> Floats:
        """Return the raw head of inputs (B, 3, H, W)."""
        try:
            return np.asarray(self._session.run([self._output], {self._input: input_nchw})[0])
        except Exception as error:
            raise DeviceError(f"{self._path} does not run in ONNX Runtime: {in_one_line(error)}") from error

    def close(self) -> None:
        """Give back the model's memory and threads."""
        self._session = None


def open_model(bundle: Bundle, *, threads: int = 0) -> OnnxRuntimeSession:
    """Load a bundle's model.

    Args:
        bundle: the bundle.
        threads: intra-op threads; 0 takes every core that this process may use.

    Raises:
        ArtifactError: the model is altered, or ONNX Runtime does not open it.
    """
    import onnxruntime

    path = bundle.file(bundle.model)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options(onnxruntime, threads), providers=providers(onnxruntime)
        )
    except Exception as error:
        raise ArtifactError(
            f"{path} cannot be opened by ONNX Runtime {onnxruntime.__version__}: {in_one_line(error)}",
            wanted="a graph that this version reads",
            do="export it again, or install a newer onnxruntime",
        ) from error
    return OnnxRuntimeSession(session, onnxruntime.__version__, str(path))


def providers(onnxruntime: Any) -> list[str]:
    """CUDA where this build of ONNX Runtime has it, and the CPU."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


def options(onnxruntime: Any, threads: int) -> Any:
    """Return how models are run: threads of their own, and no word but errors."""
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads or usable_cores()
    made.inter_op_num_threads = 1
    made.log_severity_level = _ERRORS
    # Threads still spin inside a call, which is quickest, but not after it, where they would steal time from others.
    made.add_session_config_entry("session.force_spinning_stop", "1")
    # Layers are shared out in smaller parts, so that a thread whose core reads the next frame meanwhile is not waited
    # for with its whole half.
    made.add_session_config_entry("session.dynamic_block_base", BLOCKS)
    return made


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_one_line(error: Exception) -> str:
    """Return the first line of what ONNX Runtime says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]

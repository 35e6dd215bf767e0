"""TensorRT on this computer's GPU, by the code that builds and runs engines on boards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slimdeploy import errors
from slimdeploy.backends import trtexec
from slimdeploy.backends.protocol import INPUT, OUTPUT, Tensors
from slimdeploy.board import whole
from slimdeploy.board.build import build
from slimdeploy.board.bundle import Bundle
from slimdeploy.board.errors import AgentError
from slimdeploy.board.machine import this_machine
from slimdeploy.board.sessions import Engines
from slimdeploy.board.tensorrt_session import TensorRTSession, open_engine
from slimdeploy.board.trtexec import Files
from slimdeploy.errors import ArtifactError, MissingDependency
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Artifact, LayerTime

NAME = "tensorrt"


class TensorRtSession:
    """One loaded engine; inputs are copied to the GPU and the output back in every call.

    Of a network with masks, the prototypes stay on the GPU.
    """

    def __init__(self, session: TensorRTSession) -> None:
        self._session = session

    def run(self, feeds: Tensors) -> Tensors:
        """Return the output by its name; see `protocol.Session`."""
        with _as_ours():
            return {OUTPUT: np.array(self._session.run(feeds[INPUT]))}  # the next call overwrites the session's own

    def close(self) -> None:
        """Give back the engine's memory and its buffers."""
        self._session.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRt:
    """Opens .onnx files with the tensorrt module that is installed, 8.5 to 11.

    The first opening builds the engine, which takes minutes. It is kept where `slimdeploy build` keeps it: beside the
    bundle, or beside the file where it lies in none.
    """

    name: str = NAME
    formats: frozenset[str] = frozenset({"onnx"})
    parallel: bool = False

    @property
    def version(self) -> str:
        """TensorRT's version."""
        return str(_module().__version__)

    def open(self, artifact: Artifact, *, threads: int = 0) -> TensorRtSession:
        """Build the engine unless it is there, and load it; see `protocol.Backend`. Threads do not matter to a GPU."""
        _module()
        bundle, engines = _bundle(artifact), _engines(artifact)
        with _as_ours():
            build(bundle, engines)
            return TensorRtSession(open_engine(bundle, engines))

    def profile(self, artifact: Artifact, feeds: Tensors, *, threads: int, calls: int) -> list[LayerTime]:
        """Return the mean time of each layer over some calls, by trtexec and its own input."""
        shapes = {INPUT: _shape(artifact)} if artifact.spec.dynamic_batch else {}
        with scratch_folder() as folder, _as_ours():
            place = Path(folder)
            files = Files(
                onnx=Path(artifact.path), engine=place / "model.engine", timing_cache=place / "timing", shapes=shapes
            )
            machine = this_machine(os.environ)
            found = trtexec.profile(machine, self.version, files, precision=artifact.precision, calls=calls)
        return list(found)


def _module() -> Any:
    try:
        import tensorrt
    except ImportError as error:
        raise MissingDependency(
            f"this Python has no TensorRT: {error}",
            wanted="the module tensorrt, and an NVIDIA GPU",
            do="pip install tensorrt, or python3-libnvinfer on a Jetson",
        ) from error
    return tensorrt


def _shape(artifact: Artifact) -> tuple[int, ...]:
    return (artifact.spec.batch, 3, *artifact.spec.imgsz)


def _engines(artifact: Artifact) -> Engines:
    path = Path(artifact.path).absolute()
    owner = path.parent if (path.parent / whole.MANIFEST).is_file() else path
    return Engines(machine=this_machine(os.environ), cache=owner.with_name(f"{owner.name}-engines"), runtime=NAME)


def _bundle(artifact: Artifact) -> Bundle:
    """Return the file as the board's code reads it: a bundle of this graph alone."""
    path = Path(artifact.path)
    if not path.is_file():
        raise ArtifactError(f"no model at {path}", wanted="an .onnx file")
    manifest = {
        "input": {"name": INPUT, "shape": list(_shape(artifact)), "dynamic_batch": artifact.spec.dynamic_batch},
        "output": {"name": OUTPUT},
        "model": {"file": path.name, "precision": artifact.precision, "task": artifact.spec.task, "classes": []},
        "files": {path.name: {"sha256": whole.sha256_file(path), "size_bytes": path.stat().st_size}},
    }
    return Bundle(folder=path.parent, manifest=manifest, graph=path.name)


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """Turn an error of the board's code into the desk's of the same name."""
    try:
        yield
    except AgentError as error:
        kind = getattr(errors, type(error).__name__, errors.SlimdeployError)
        raise kind(error.wrong, wanted=error.wanted, do=error.do) from error

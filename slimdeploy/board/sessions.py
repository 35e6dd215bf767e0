"""The seam between the agent and whatever runs the model: one protocol, and the choice between the runtimes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy.board.errors import MissingDependency, UsageError
from slimdeploy.board.machine import Machine

if TYPE_CHECKING:
    from typing import Protocol

    from slimdeploy.board.boxes import Floats
    from slimdeploy.board.bundle import Bundle

    class Session(Protocol):
        """A model that is loaded and ready.

        Attributes:
            runtime: name of the runtime: `onnxruntime` or `tensorrt`.
            version: of the runtime.
            graph: file of the bundle that it runs, or that its engine was built of.
            fresh: whether each output is an array of its own, which no later call overwrites.
        """

        runtime: str
        version: str
        graph: str
        fresh: bool

        def run(self, input_nchw: Floats) -> Floats:
            """Return the raw head (B, 4 + classes, anchors) of inputs (B, 3, H, W); blocks until it is there.

            What it returns may be overwritten by the next call, unless it is `fresh`.
            """

        def close(self) -> None:
            """Give back memory and threads; the session is not used afterwards."""


RUNTIMES = ("tensorrt", "onnxruntime")


@dataclass(frozen=True)
class Engines:
    """What opens a model on this board.

    Attributes:
        machine: the board.
        cache: the folder that engines are built in.
        runtime: `tensorrt` or `onnxruntime`; empty takes TensorRT where its module is, else ONNX Runtime.
        threads: of ONNX Runtime; 0 takes every core that this process may use.
        dla_core: a deep-learning accelerator that TensorRT builds for, or -1.
    """

    machine: Machine
    cache: Path
    runtime: str = ""
    threads: int = 0
    dla_core: int = -1

    def chosen(self) -> str:
        """Return the runtime.

        Raises:
            MissingDependency: the board has none, or not the one that was named.
            UsageError: an unknown one was named.
        """
        if self.runtime and self.runtime not in RUNTIMES:
            raise UsageError(f"no runtime {self.runtime!r}", wanted=f"one of {', '.join(RUNTIMES)}")
        for name in [self.runtime] if self.runtime else RUNTIMES:
            if importlib.util.find_spec(name) is not None:
                return name
        raise MissingDependency(
            f"this Python has no {self.runtime or 'runtime'}",
            wanted="the tensorrt module that JetPack brings, or onnxruntime",
            do="install python3-libnvinfer (JetPack), or pip install onnxruntime",
        )


def open_session(bundle: Bundle, engines: Engines) -> Session:
    """Load the bundle's model.

    Raises:
        ArtifactError: the model is altered, does not load, or its engine was not built yet.
        MissingDependency: the board has no runtime for it.
    """
    if engines.chosen() == "tensorrt":
        from slimdeploy.board.tensorrt_session import open_engine

        return open_engine(bundle, engines)
    from slimdeploy.board.onnxruntime_session import open_model

    return open_model(bundle, threads=engines.threads)

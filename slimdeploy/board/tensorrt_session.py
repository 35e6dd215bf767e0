"""TensorRT: the engine that `build` made on this board, fed through pinned memory."""

from __future__ import annotations

import ctypes
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from slimdeploy.board.build import engine_for, graph_for
from slimdeploy.board.cudart import Cudart
from slimdeploy.board.errors import ArtifactError, DeviceError
from slimdeploy.board.tensorrt_calls import Context

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.sessions import Engines

_FLOAT_BYTES = 4


class TensorRTSession:
    """One loaded engine; see `sessions.Session`.

    Args:
        context: the engine.
        cuda: CUDA's runtime library.
        version: of TensorRT.
        bundle: which output is asked for; a network of masks has one of prototypes, too.
        graph: the file that the engine was built of.
    """

    runtime = "tensorrt"
    fresh = False

    def __init__(self, context: Context, cuda: Cudart, version: str, bundle: Bundle, graph: str) -> None:
        self.version, self.graph = version, graph
        self._context, self._cuda = context, cuda
        self._taken, self._given = _input_and_output(context, bundle.manifest.get("output", {}).get("name", ""))
        self._stream = cuda.stream()
        sizes = {one.name: prod(one.shape) * _FLOAT_BYTES for one in context.bindings}
        self._device = {name: cuda.device_memory(size) for name, size in sizes.items()}
        self._pinned = {name: cuda.pinned_memory(size) for name, size in sizes.items()}
        self._sizes = sizes
        self._input = _as_array(self._pinned[self._taken.name], self._taken.shape)
        self._output = _as_array(self._pinned[self._given.name], self._given.shape)

    def run(self, input_nchw: Floats) -> Floats:
        """Return the raw head of inputs (B, 3, H, W); the next call overwrites it."""
        self._input[...] = input_nchw
        taken, given = self._taken.name, self._given.name
        self._cuda.copy_in(self._device[taken], self._pinned[taken], self._sizes[taken], self._stream)
        if not self._context.enqueue(self._device, self._stream):
            raise DeviceError("TensorRT did not start the engine", do="build it again: agent.pyz build")
        self._cuda.copy_out(self._pinned[given], self._device[given], self._sizes[given], self._stream)
        self._cuda.wait(self._stream)
        return self._output

    def close(self) -> None:
        """Give back the engine's memory and its buffers."""
        self._context.close()
        self._cuda.free(device=[*self._device.values()], pinned=[*self._pinned.values()], stream=self._stream)
        self._device, self._pinned = {}, {}


def open_engine(bundle: Bundle, engines: Engines) -> TensorRTSession:
    """Load the engine that was built for a bundle on this board.

    Raises:
        ArtifactError: none was built yet for this TensorRT and GPU, or it does not load.
        DeviceError: CUDA fails.
    """
    import tensorrt

    cuda = Cudart()
    version = str(tensorrt.__version__)
    plan = engine_for(bundle, engines, version, cuda.gpu()).read_bytes()
    shapes = {bundle.manifest["input"]["name"]: tuple(bundle.manifest["input"]["shape"])}
    graph = graph_for(bundle, version).name
    return TensorRTSession(Context(tensorrt, plan, shapes), cuda, version, bundle, graph)


def _input_and_output(context: Context, output: str) -> Any:
    """The engine's only input, and its only output or the one of that name, both float32."""
    taken = [one for one in context.bindings if one.is_input]
    given = [one for one in context.bindings if not one.is_input]
    given = [one for one in given if one.name == output] or given
    if len(taken) != 1 or len(given) != 1 or not (taken[0].float32 and given[0].float32):
        raise ArtifactError("the engine is of another form", wanted="one float32 input and one float32 output")
    return taken[0], given[0]


def _as_array(address: int, shape: tuple[int, ...]) -> np.ndarray:
    buffer = (ctypes.c_float * prod(shape)).from_address(address)
    return np.ctypeslib.as_array(buffer).reshape(shape)

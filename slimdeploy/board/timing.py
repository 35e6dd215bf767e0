"""Time a graph that the desk sends, a layer or a whole network, in the runtime that runs models on this board."""

from __future__ import annotations

import time
from math import prod
from typing import Any, Callable, Sequence

import numpy as np

from slimdeploy.board.errors import AgentError, ArtifactError, DeviceError
from slimdeploy.board.onnxruntime_session import in_one_line, options, providers, usable_cores
from slimdeploy.board.sessions import Engines

UNTIMED_CALLS = 3
LARGEST_INPUT = 1 << 28  # values
LONGEST_BYTES = 4  # of a value; tensors of narrower types leave some of their memory unused

Call = Callable[[], object]


class Timer:
    """Times one graph after another, and keeps what TensorRT learned of one for the next.

    Args:
        engines: the board and its runtime.
    """

    def __init__(self, engines: Engines) -> None:
        self.runtime = engines.chosen()
        self._threads = engines.threads or usable_cores()
        self._learned = b""

    def time(self, graph: bytes, *, precision: str, budget_s: float, calls: Sequence[int]) -> dict[str, Any]:
        """Return every call's seconds, on input that stays the same.

        Args:
            graph: an ONNX model of one input and static shapes.
            precision: of its weights.
            budget_s: for how long it is called.
            calls: timed, at least and at most.

        Raises:
            ArtifactError: the runtime does not take the graph.
            DeviceError: it fails.
        """
        call, close, version = self._with_tensorrt(graph, precision) if self._is_tensorrt else self._with_ort(graph)
        try:
            samples_s = _timed(call, budget_s, calls)
        except AgentError:
            raise
        except Exception as error:
            raise DeviceError(f"{self.runtime} failed on the graph: {in_one_line(error)}") from error
        finally:
            close()
        return {"samples_s": samples_s, "backend": self.runtime, "version": version, "threads": self._threads}

    @property
    def _is_tensorrt(self) -> bool:
        return self.runtime == "tensorrt"

    def _with_ort(self, graph: bytes) -> tuple[Call, Call, str]:
        import onnxruntime

        try:
            session = onnxruntime.InferenceSession(
                graph, options(onnxruntime, self._threads), providers=providers(onnxruntime)
            )
        except Exception as error:
            raise ArtifactError(f"ONNX Runtime does not take the graph: {in_one_line(error)}") from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or not all(isinstance(side, int) and side > 0 for side in inputs[0].shape):
            raise ArtifactError("the graph to time has other inputs", wanted="one, of a static shape")
        taken = inputs[0]
        if prod(taken.shape) > LARGEST_INPUT:
            raise ArtifactError(f"the graph's input has {prod(taken.shape)} values", wanted=f"{LARGEST_INPUT} or fewer")
        dtype = np.float16 if "float16" in taken.type else np.float32
        feeds = {taken.name: np.random.default_rng(0).random(taken.shape, dtype=np.float32).astype(dtype)}
        return lambda: session.run(None, feeds), lambda: None, str(onnxruntime.__version__)

    def _with_tensorrt(self, graph: bytes, precision: str) -> tuple[Call, Call, str]:
        """Build the graph and run it on memory of the GPU: nothing is copied, as between the layers of a network."""
        import tensorrt

        from slimdeploy.board.cudart import Cudart
        from slimdeploy.board.tensorrt_calls import Context, Request, build_plan

        request = Request(onnx=graph, precision=precision, shapes={}, timing_cache=self._learned)
        plan, self._learned = build_plan(tensorrt, request)
        context, cuda = Context(tensorrt, plan, {}), Cudart()
        stream = cuda.stream()
        memory = {one.name: cuda.device_memory(prod(one.shape) * LONGEST_BYTES) for one in context.bindings}

        def call() -> None:
            if not context.enqueue(memory, stream):
                raise DeviceError("TensorRT did not start the engine")
            cuda.wait(stream)

        def close() -> None:
            context.close()
            cuda.free(device=[*memory.values()], stream=stream)

        return call, close, str(tensorrt.__version__)


def _timed(call: Call, budget_s: float, calls: Sequence[int]) -> list[float]:
    for _ in range(UNTIMED_CALLS):
        call()
    least, most = calls
    samples_s: list[float] = []
    ends_s = time.perf_counter() + budget_s
    while len(samples_s) < least or (len(samples_s) < most and time.perf_counter() < ends_s):
        started_s = time.perf_counter()
        call()
        samples_s.append(round(time.perf_counter() - started_s, 9))  # the clock tells no less than a nanosecond
    return samples_s

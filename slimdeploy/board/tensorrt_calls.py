"""Every call into TensorRT whose name or meaning depends on its version, 8.5 to 11; nothing else names them.

Weak typing (8, 9): the flags FP16 and INT8 let kernels of these types run. Strong typing (10): the graph's own types
hold. From 11 on they always do, and the flags are gone from the enum. Tests run each call against the enums and
signatures of the real bindings of 8.6, 10.3, 10.13, 10.16 and 11.4.

Source: the bindings wheels on PyPI; release 8.5 of NVIDIA/TensorRT, python/src/infer/pyCore.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from slimdeploy.board.errors import ArtifactError, DeviceError, UsageError

WORKSPACE_BYTES = 1 << 30  # an upper limit; YOLOv8 takes tens of MB
NO_DLA = -1


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        onnx: bytes of the graph.
        precision: `fp32`, `fp16` or `int8`.
        shapes: of each input, for graphs that leave a dimension open.
        timing_cache: what an earlier build learned, or b"".
        dla_core: a deep-learning accelerator, or `NO_DLA`.
    """

    onnx: bytes
    precision: str
    shapes: Mapping[str, tuple[int, ...]]
    timing_cache: bytes = b""
    dla_core: int = NO_DLA


def major(trt: Any) -> int:
    """Return the major version of the tensorrt module."""
    return int(str(trt.__version__).split(".")[0])


def build_plan(trt: Any, request: Request) -> tuple[bytes, bytes]:
    """Return a serialized engine, and what the build learned for the next one.

    Args:
        trt: the tensorrt module.
        request: what to build.

    Raises:
        ArtifactError: TensorRT does not take the graph.
        DeviceError: there is no GPU, or the build fails.
        UsageError: there is no such DLA core, or it cannot run this precision.
    """
    logger = new_logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what a null pointer becomes where CUDA does not start
        raise DeviceError(f"TensorRT found no usable GPU: {logger.last or error}", do="check the driver") from error
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.onnx):
        told = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise ArtifactError(
            f"TensorRT {trt.__version__} does not take the graph: {told or logger.last}",
            wanted="a graph for this version",
            do="export for this board's target, or at fp32",
        )
    config = builder.create_builder_config()
    _set_up(trt, builder, network, config, request)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise DeviceError(f"TensorRT {trt.__version__} could not build the engine: {logger.last or 'no word why'}")
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _network_flags(trt: Any) -> int:
    flags, version = trt.NetworkDefinitionCreationFlag, major(trt)
    if version < 10:
        return int(1 << int(flags.EXPLICIT_BATCH))
    return int(1 << int(flags.STRONGLY_TYPED)) if version == 10 else 0


def _set_up(trt: Any, builder: Any, network: Any, config: Any, request: Request) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    config.set_timing_cache(config.create_timing_cache(request.timing_cache), False)
    if major(trt) < 10 and request.precision != "fp32":
        config.set_flag(trt.BuilderFlag.FP16)
        if request.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
    _fix_shapes(builder, network, config, request)
    if request.dla_core != NO_DLA:
        _use_dla(trt, builder, config, request)


def _fix_shapes(builder: Any, network: Any, config: Any, request: Request) -> None:
    """Let a call hold from one image to as many as the bundle names; where nothing is open there is no profile."""
    taken = [network.get_input(i) for i in range(network.num_inputs)]
    open_ones = [one for one in taken if -1 in tuple(one.shape)]
    if not open_ones:
        return
    profile = builder.create_optimization_profile()
    for one in open_ones:
        shape = request.shapes[one.name]
        profile.set_shape(one.name, least_shape(shape, request.dla_core), shape, shape)
    config.add_optimization_profile(profile)


def least_shape(shape: tuple[int, ...], dla_core: int) -> tuple[int, ...]:
    """Return the smallest input of an engine that takes up to `shape`: one image; a DLA takes one size alone."""
    return shape if dla_core != NO_DLA else (1, *shape[1:])


def _use_dla(trt: Any, builder: Any, config: Any, request: Request) -> None:
    """Run on a DLA what it can run, and the rest on the GPU; TensorRT from 10.8 to 11.4.0 has no DLA at all."""
    cores = int(builder.num_DLA_cores)
    if request.dla_core >= cores:
        raise UsageError(
            f"no DLA core {request.dla_core}: TensorRT {trt.__version__} finds {cores} here", do="leave --dla out"
        )
    if request.precision != "fp16":
        raise UsageError(f"a DLA runs no {request.precision} graph", wanted="fp16: explicit int8 is not for DLA")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = request.dla_core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def new_logger(trt: Any) -> Any:
    """Return a logger that keeps the last error, since TensorRT returns nothing where it fails and says why here."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = msg.strip().splitlines()[0] if msg.strip() else self.last

    return Logger()


@dataclass(frozen=True)
class Binding:
    """An input or output of an engine: its name, whether it is an input, its shape, and whether it is float32."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    float32: bool


class Context:
    """An engine that is ready to run, by tensor names where TensorRT knows them (8.5), else by bindings.

    Args:
        trt: the tensorrt module.
        plan: the serialized engine.
        shapes: of each input, for engines that leave a dimension open.

    Raises:
        ArtifactError: the engine was built by another version or for another GPU.
    """

    def __init__(self, trt: Any, plan: bytes, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._trt, logger = trt, new_logger(trt)
        self._runtime = trt.Runtime(logger)  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ArtifactError(
                f"TensorRT {trt.__version__} does not load the engine: {logger.last or 'no word why'}",
                wanted="an engine that was built on this board by this version",
                do="build it again: agent.pyz build",
            )
        self._context = self._engine.create_execution_context()
        self._by_name = hasattr(self._engine, "num_io_tensors")
        self.bindings = self._named(shapes) if self._by_name else self._numbered(shapes)

    def _named(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Binding]:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT for name in names}
        for name in (one for one in names if modes[one] and -1 in tuple(self._engine.get_tensor_shape(one))):
            self._context.set_input_shape(name, shapes[name])
        return [
            Binding(
                name=name,
                is_input=modes[name],
                shape=tuple(self._context.get_tensor_shape(name)),
                float32=self._engine.get_tensor_dtype(name) == self._trt.DataType.FLOAT,
            )
            for name in names
        ]

    def _numbered(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Binding]:
        count = range(self._engine.num_bindings)
        for i in count:
            if self._engine.binding_is_input(i) and -1 in tuple(self._engine.get_binding_shape(i)):
                self._context.set_binding_shape(i, shapes[self._engine.get_binding_name(i)])
        return [
            Binding(
                name=self._engine.get_binding_name(i),
                is_input=bool(self._engine.binding_is_input(i)),
                shape=tuple(self._context.get_binding_shape(i)),
                float32=self._engine.get_binding_dtype(i) == self._trt.DataType.FLOAT,
            )
            for i in count
        ]

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> bool:
        """Start the engine on device memory, each tensor's by its name; return whether it started."""
        if not self._by_name:
            ordered = [addresses[one.name] for one in self.bindings]
            return bool(self._context.execute_async_v2(bindings=ordered, stream_handle=stream))
        for name, address in addresses.items():
            self._context.set_tensor_address(name, address)
        return bool(self._context.execute_async_v3(stream))

    def close(self) -> None:
        """Give back the engine's memory, the context first."""
        self._context = self._engine = self._runtime = None

"""A stand-in for the tensorrt module that offers exactly what a recorded version offers, and runs ONNX Runtime inside.

A name that the version lacks, or arguments that none of its overloads takes, raises as the real bindings do.
"""

from __future__ import annotations

import ctypes
import enum
import importlib.machinery
import json
import subprocess
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

SURFACES = Path(__file__).parent / "tensorrt_surface"
VERSIONS = ("8.6", "10.3", "10.13", "10.16", "11.4")
BY_NAME = {"num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_shape", "get_tensor_dtype"}
CUDART = """
#include <stdlib.h>
#include <string.h>
int live = 0;
int cudaMalloc(void **p, size_t n) { live++; *p = malloc(n); return 0; }
int cudaHostAlloc(void **p, size_t n, unsigned f) { live++; *p = malloc(n); return 0; }
int cudaFree(void *p) { live--; free(p); return 0; }
int cudaFreeHost(void *p) { live--; free(p); return 0; }
int cudaStreamCreate(void **s) { live++; *s = malloc(1); return 0; }
int cudaStreamDestroy(void *s) { live--; free(s); return 0; }
int cudaStreamSynchronize(void *s) { return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *s) { memcpy(to, from, n); return 0; }
int cudaDeviceGetAttribute(int *v, int which, int device) { *v = which == 75 ? 8 : which == 76 ? 7 : 8; return 0; }
const char *cudaGetErrorString(int code) { return "a made-up error"; }
"""


def write_cudart(folder: Path) -> Path:
    """Compile a libcudart whose device memory is the host's, and which counts what is not given back."""
    (folder / "cudart.c").write_text(CUDART, encoding="ascii")
    made = folder / "libcudart.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(made), str(folder / "cudart.c")], check=True)
    return made


class Guarded:
    """An object of one class of a surface: what the class lacks raises AttributeError, wrong arguments TypeError."""

    def __init__(self, surface: dict[str, Any], kind: str, inside: Any) -> None:
        self.__dict__.update(_known=surface["classes"][kind], _kind=kind, _inside=inside)

    def __getattr__(self, name: str) -> Any:
        if name not in self._known:
            raise AttributeError(f"{self._kind} has no {name}")
        found = getattr(self._inside, name)
        if self._known[name] is None:
            return found
        return lambda *given, **named: (
            _fits(self._kind, name, self._known[name], given, named),
            found(*given, **named),
        )[1]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._known:
            raise AttributeError(f"{self._kind} has no {name}")
        setattr(self._inside, name, value)


def _fits(kind: str, name: str, overloads: list[list[str]], given: tuple[Any, ...], named: dict[str, Any]) -> None:
    for one in overloads:
        names = [argument.rstrip("=") for argument in one]
        needed = [argument for argument in one[len(given) :] if not argument.endswith("=")]
        if len(given) <= len(one) and set(named) <= set(names[len(given) :]) and set(needed) <= set(named):
            return
    raise TypeError(f"{kind}.{name} takes {overloads}, not {len(given)} arguments and {sorted(named)}")


def module(
    version: str, *, without: frozenset[str] = frozenset(), refuse: str = "", cores: int = 0
) -> types.ModuleType:
    """Return the stand-in of a version.

    Args:
        version: one of `VERSIONS`.
        without: names of ICudaEngine that are left out, to stand for a version before 8.5.
        refuse: what the parser says of every graph; empty takes it.
        cores: DLA cores that the builder finds.
    """
    surface = json.loads((SURFACES / f"{version}.json").read_text(encoding="utf-8"))
    for name in without:
        surface["classes"]["ICudaEngine"].pop(name)
    trt = types.ModuleType("tensorrt")
    trt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    trt.__version__ = surface["version"]
    for name, members in surface["enums"].items():
        setattr(trt, name, enum.IntEnum(name, {member: i for i, member in enumerate(members)}))
    trt.ILogger = _logger()
    made = _World(surface, trt, refuse, cores)
    trt.world = made
    trt.Builder = lambda logger: Guarded(surface, "Builder", _Builder(made))
    trt.OnnxParser = lambda network, logger: Guarded(surface, "OnnxParser", _Parser(made, network))
    trt.Runtime = lambda logger: Guarded(surface, "Runtime", _Runtime(made))
    return trt


def _logger() -> type:
    severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
    return type("ILogger", (), {"Severity": severity, "__init__": lambda self: None})


class _World:
    """What the parts of one stand-in share, and what was asked of it."""

    def __init__(self, surface: dict[str, Any], trt: types.ModuleType, refuse: str, cores: int) -> None:
        self.surface, self.trt, self.refuse, self.cores = surface, trt, refuse, cores
        self.asked: dict[str, Any] = {"flags": [], "builds": 0}

    def guard(self, kind: str, inside: Any) -> Guarded:
        return Guarded(self.surface, kind, inside)


class _Builder:
    def __init__(self, world: _World) -> None:
        self.world, self.num_DLA_cores = world, world.cores

    def create_network(self, flags: int = 0) -> Guarded:
        self.world.asked["network"] = flags
        return self.world.guard(
            "INetworkDefinition", types.SimpleNamespace(onnx=b"", num_inputs=1, get_input=self._input)
        )

    def _input(self, index: int) -> Guarded:
        return self.world.guard("ITensor", types.SimpleNamespace(name="images", shape=(1, 3, 64, 96)))

    def create_builder_config(self) -> Guarded:
        return self.world.guard("IBuilderConfig", _Config(self.world))

    def build_serialized_network(self, network: Guarded, config: Guarded) -> bytes:
        self.world.asked["builds"] += 1
        return b"PLAN" + self.world.trt.__version__.encode() + b"\0" + network._inside.onnx


class _Config:
    def __init__(self, world: _World) -> None:
        self.world = world
        self.default_device_type, self.DLA_core = None, -1

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        assert pool.name == "WORKSPACE"
        assert pool_size > 0

    def create_timing_cache(self, serialized: bytes) -> bytes:
        self.world.asked["timing_cache"] = serialized
        return serialized

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        return True

    def get_timing_cache(self) -> Guarded:
        return self.world.guard("ITimingCache", types.SimpleNamespace(serialize=lambda: b"learned"))

    def set_flag(self, flag: Any) -> None:
        self.world.asked["flags"].append(flag.name)


class _Parser:
    def __init__(self, world: _World, network: Guarded) -> None:
        self.world, self.network, self.num_errors = world, network, 1 if world.refuse else 0

    def parse(self, model: bytes) -> bool:
        onnx.checker.check_model(onnx.load_from_string(model))
        self.network._inside.onnx = model
        return not self.world.refuse

    def get_error(self, index: int) -> Guarded:
        return self.world.guard("ParserError", types.SimpleNamespace(desc=lambda: self.world.refuse))


class _Runtime:
    def __init__(self, world: _World) -> None:
        self.world = world

    def deserialize_cuda_engine(self, plan: bytes) -> Guarded | None:
        version, _, model = plan.partition(b"\0")
        if version != b"PLAN" + self.world.trt.__version__.encode():
            return None
        return self.world.guard("ICudaEngine", _Engine(self.world, onnxruntime.InferenceSession(model)))


class _Engine:
    def __init__(self, world: _World, session: Any) -> None:
        self.world, self.session = world, session
        self.tensors = [*session.get_inputs(), *session.get_outputs()]
        self.num_io_tensors = self.num_bindings = len(self.tensors)

    def _of(self, which: Any) -> Any:
        return self.tensors[which] if isinstance(which, int) else next(t for t in self.tensors if t.name == which)

    def get_tensor_name(self, index: int) -> str:
        return self.tensors[index].name

    def get_tensor_mode(self, name: str) -> Any:
        return self.world.trt.TensorIOMode.INPUT if name == "images" else self.world.trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, which: Any) -> tuple[int, ...]:
        return tuple(self._of(which).shape)

    def get_tensor_dtype(self, which: Any) -> Any:
        return self.world.trt.DataType.FLOAT

    def binding_is_input(self, index: int) -> bool:
        return index == 0

    get_binding_name, get_binding_shape, get_binding_dtype = get_tensor_name, get_tensor_shape, get_tensor_dtype

    def create_execution_context(self) -> Guarded:
        return self.world.guard("IExecutionContext", _Context(self))


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.addresses = engine, {}
        self.get_tensor_shape = self.get_binding_shape = engine.get_tensor_shape

    def set_tensor_address(self, name: str, memory: int) -> None:
        self.addresses[name] = memory

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.engine.world.asked["api"] = "names"
        taken, *given = self.engine.tensors
        feed = _at(self.addresses[taken.name], taken.shape)
        made = self.engine.session.run([one.name for one in given], {taken.name: feed})
        for one, values in zip(given, made, strict=True):
            _at(self.addresses[one.name], one.shape)[...] = values
        return True

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        self.addresses = {one.name: address for one, address in zip(self.engine.tensors, bindings, strict=True)}
        done = self.execute_async_v3(stream_handle)
        self.engine.world.asked["api"] = "bindings"
        return done


def _at(address: int, shape: list[int]) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * int(np.prod(shape))).from_address(address)).reshape(shape)

"""Find the runtime for a model file: the built-in ones, and those that other packages add.

A package adds a runtime with an entry point in the group `slimdeploy.backends`: its name is the runtime's name, its
object is called without arguments and returns a `protocol.Backend`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable

from slimdeploy._needs import needs
from slimdeploy.backends.protocol import Backend
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.records import Artifact

ENTRY_POINTS = "slimdeploy.backends"
DEFAULTS = {"onnx": "onnxruntime", "pt": "pytorch"}  # by Artifact.format

_BUILT_IN = {  # name: (module, class, the extra that brings it)
    "onnxruntime": ("slimdeploy.backends.onnxruntime_", "OnnxRuntime", "onnx"),
    "onnxruntime-cuda": ("slimdeploy.backends.onnxruntime_", "OnnxRuntimeCuda", "onnx"),
    "onnxruntime-tensorrt": ("slimdeploy.backends.onnxruntime_", "OnnxRuntimeTensorRt", "onnx"),
    "openvino": ("slimdeploy.backends.openvino_", "OpenVino", "openvino"),
    "tensorrt": ("slimdeploy.backends.tensorrt_", "TensorRt", "onnx"),  # TensorRT itself is no extra's
    "pytorch": ("slimdeploy.backends.pytorch_", "PyTorch", "train"),
}
_UNPICKLING = frozenset({"pytorch"})


def backend_names() -> tuple[str, ...]:
    """Return the names of every runtime, installed or not, the built-in ones first."""
    return (*_BUILT_IN, *sorted(set(_plug_ins()) - set(_BUILT_IN)))


def backend_for(artifact: Artifact, name: str = "", *, trust: bool = False) -> Backend:
    """Return the runtime that opens a model file.

    Args:
        artifact: the model file.
        name: the runtime's name; empty takes the default of the file's format.
        trust: let a runtime that unpickles (PyTorch) build whatever the file names.

    Raises:
        UsageError: there is no such runtime, or it does not open this format.
        ArtifactError: no name was given and no runtime is the default of this format.
        MissingDependency: the runtime's package is not installed.
    """
    backend = _make(name or _default(artifact), trust=trust)
    if artifact.format not in backend.formats:
        raise UsageError(
            f"the backend {backend.name} does not open {artifact.path}",
            wanted=f"a file of the format {' or '.join(sorted(backend.formats))}",
            do="leave --backend out, or name a file that it opens",
        )
    return backend


def _default(artifact: Artifact) -> str:
    if artifact.format not in DEFAULTS:
        raise ArtifactError(
            f"no backend is the default for {artifact.path} of the format {artifact.format!r}",
            wanted=f"the format {' or '.join(sorted(DEFAULTS))}",
            do="name a backend with --backend",
        )
    return DEFAULTS[artifact.format]


def _make(name: str, *, trust: bool) -> Backend:
    if name in _BUILT_IN:
        module, attribute, extra = _BUILT_IN[name]
        with needs(extra):
            factory = getattr(importlib.import_module(module), attribute)
        made: Backend = factory(trust=True) if trust and name in _UNPICKLING else factory()
        return made
    plug_ins = _plug_ins()
    if name not in plug_ins:
        raise UsageError(f"no backend is called {name!r}", wanted=f"one of {', '.join(backend_names())}")
    return _load(plug_ins[name])()


def _plug_ins() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _load(point: importlib.metadata.EntryPoint) -> Callable[[], Backend]:
    try:
        factory: Callable[[], Backend] = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the plug-in backend {point.name!r} ({point.value}) cannot be loaded: {error}",
            do="install what it needs, or leave it out",
        ) from error
    return factory

"""Build the engine with what the board has, once: the next build of the same graph on the same board is instant."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy.board import trtexec, whole
from slimdeploy.board.errors import SCHEMA, ArtifactError, DeviceError, MissingDependency
from slimdeploy.board.tensorrt_calls import Request, build_plan
from slimdeploy.board.text import SHOWN, one_line

if TYPE_CHECKING:
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.sessions import Engines

TRTEXEC_S = 3600.0  # small boards build for many minutes


@dataclass(frozen=True)
class Key:
    """What an engine depends on; another TensorRT, as after an update of JetPack, makes another engine.

    Attributes:
        graph: SHA-256 of the ONNX file.
        tensorrt: version.
        gpu: compute capability and multiprocessors, such as "sm87x8".
        precision: of the graph.
        shape: of the input.
        dla_core: a deep-learning accelerator, or -1.
    """

    graph: str
    tensorrt: str
    gpu: str
    precision: str
    shape: tuple[int, ...]
    dla_core: int

    def name(self) -> str:
        """Return the engine's file name."""
        told = json.dumps(asdict(self), sort_keys=True).encode("utf-8")
        return f"{hashlib.sha256(told).hexdigest()[:24]}.engine"


def build(bundle: Bundle, engines: Engines) -> dict[str, Any]:
    """Build the bundle's engine, unless it is there, and return what was done as a JSON-ready object.

    Writes below `engines.cache` alone. Where ONNX Runtime runs the model there is nothing to build; the graph is opened
    once, so that one that does not load is found here.

    Raises:
        ArtifactError: the graph is altered, or the runtime does not take it.
        DeviceError: the build fails.
        MissingDependency: the board has no runtime, or lacks TensorRT, which the bundle's target runs, and no other
            runtime was named.
    """
    started_s = time.perf_counter()
    if _has_tensorrt(engines):
        built = _with_tensorrt(bundle, engines)
    else:
        _require_no_tensorrt(bundle, engines)
        built = _with_onnxruntime(bundle, engines)
    return {
        "schema": SCHEMA,
        "simulated": engines.machine.simulated,
        **built,
        "seconds": round(time.perf_counter() - started_s, 3),
    }


def graph_for(bundle: Bundle, tensorrt: str) -> Path:
    """Return the graph to build: the one that was named, else what suits TensorRT, typed int8 from 10 on.

    Args:
        bundle: the bundle.
        tensorrt: version.
    """
    if bundle.graph:
        return bundle.file(bundle.graph)
    body = "float16" if int(tensorrt.split(".")[0]) >= 10 else "float32"
    same = [one for one in bundle.manifest.get("graphs", ()) if one.get("precision") == bundle.precision]
    fitting = [one["file"] for one in same if one.get("body") == body]
    return bundle.file(fitting[0] if fitting and bundle.precision == "int8" else bundle.model)


def engine_for(bundle: Bundle, engines: Engines, tensorrt: str, gpu: str) -> Path:
    """Return the engine that was built for a bundle by this TensorRT on this GPU.

    Raises:
        ArtifactError: none was built, or the file is not what was built.
    """
    path = engines.cache / _key(bundle, graph_for(bundle, tensorrt), engines, tensorrt, gpu).name()
    if not path.is_file():
        raise ArtifactError(
            f"no engine for TensorRT {tensorrt} on {gpu} in {engines.cache}", do="build it: python3 agent.pyz build"
        )
    if _recorded(path) != whole.sha256_file(path):
        raise ArtifactError(f"the engine {path} is not what was built", do="remove it and build again")
    return path


def as_text(result: dict[str, Any]) -> str:
    """Return the outcome of `build` as a line for a person."""
    how = "was there already" if result["cached"] else f"built in {result['seconds']:.1f} s"
    return f"{result['runtime']}: {result['engine'] or 'no engine is needed'}, {how}"


def _has_tensorrt(engines: Engines) -> bool:
    """Whether TensorRT builds here: with its module where that runs the model, else with trtexec where it is alone."""
    try:
        return engines.chosen() == "tensorrt"
    except MissingDependency:
        if engines.machine.program("trtexec") is None:
            raise
        return True


def _require_no_tensorrt(bundle: Bundle, engines: Engines) -> None:
    """Raise MissingDependency where TensorRT is to run the bundle, unless another runtime was named."""
    target = bundle.manifest.get("target")
    if not engines.runtime and isinstance(target, dict) and target.get("runtime") == "tensorrt":
        board = target.get("title") or target.get("name")
        raise MissingDependency(
            f"the bundle is for {board}, whose runtime is TensorRT, and this Python has no tensorrt",
            wanted="the tensorrt module, as JetPack brings it",
            do="install python3-libnvinfer (JetPack), or name another runtime: --runtime onnxruntime",
        )


def _with_onnxruntime(bundle: Bundle, engines: Engines) -> dict[str, Any]:
    from slimdeploy.board.onnxruntime_session import open_model

    session = open_model(bundle, threads=engines.threads)
    session.close()
    return {"runtime": f"onnxruntime {session.version}", "engine": None, "cached": False}


def _with_tensorrt(bundle: Bundle, engines: Engines) -> dict[str, Any]:
    from slimdeploy.board.cudart import Cudart

    module = _module()
    version = str(module.__version__) if module else _trtexec_version(engines)
    key = _key(bundle, graph_for(bundle, version), engines, version, Cudart().gpu())
    path = engines.cache / key.name()
    told = {"runtime": f"tensorrt {version}", "engine": str(path), "cached": path.is_file() and _is_whole(path)}
    if not told["cached"]:
        engines.cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        _make(module, bundle, engines, key, partial)
        record = {"schema": SCHEMA, **asdict(key), "sha256": whole.sha256_file(partial)}
        path.with_suffix(".json").write_text(json.dumps(record), encoding="utf-8")
        partial.replace(path)
    return told


def _make(module: Any, bundle: Bundle, engines: Engines, key: Key, out: Path) -> None:
    """Write the engine, and what the build learned beside it."""
    graph, taken = graph_for(bundle, key.tensorrt), bundle.manifest["input"]
    learned = engines.cache / f"timing-{key.tensorrt}-{key.gpu}.cache"
    if module is None:
        _run_trtexec(engines, key, trtexec.Files(graph, out, learned, _open_shapes(bundle, key)))
        return
    request = Request(
        onnx=graph.read_bytes(),
        precision=key.precision,
        shapes={taken["name"]: key.shape},
        timing_cache=learned.read_bytes() if learned.is_file() else b"",
        dla_core=key.dla_core,
    )
    plan, timing = build_plan(module, request)
    out.write_bytes(plan)
    learned.write_bytes(timing)


def _open_shapes(bundle: Bundle, key: Key) -> dict[str, tuple[int, ...]]:
    taken = bundle.manifest["input"]
    return {str(taken["name"]): key.shape} if taken.get("dynamic_batch") else {}


def _run_trtexec(engines: Engines, key: Key, files: trtexec.Files) -> None:
    program = engines.machine.program("trtexec")
    assert program is not None
    major, minor = (int(part) for part in key.tensorrt.split(".")[:2])
    argv = trtexec.command(program, (major, minor), files, precision=key.precision, dla_core=key.dla_core)
    try:
        ended = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TRTEXEC_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"trtexec did not end: {error}") from error
    if ended.returncode != 0 or not files.engine.is_file():
        lines = ended.stdout.decode("utf-8", "replace").strip().split("\n")
        reason = next((line for line in lines if "[E]" in line), lines[-1])
        raise DeviceError(f"trtexec could not build the engine: {one_line(reason, SHOWN) or 'no word why'}")


def _key(bundle: Bundle, graph: Path, engines: Engines, tensorrt: str, gpu: str) -> Key:
    return Key(
        graph=whole.sha256_file(graph),
        tensorrt=tensorrt,
        gpu=gpu,
        precision=bundle.precision,
        shape=tuple(bundle.manifest["input"]["shape"]),
        dla_core=engines.dla_core,
    )


def _module() -> Any:
    try:
        import tensorrt
    except ImportError:
        return None
    return tensorrt


def _trtexec_version(engines: Engines) -> str:
    """Version that trtexec tells in its first line, which it prints before it reads its options."""
    program = engines.machine.program("trtexec")
    if program is None:
        raise DeviceError("the tensorrt module does not load, and there is no trtexec", do="install TensorRT")
    told = engines.machine.ask("trtexec", "--help")
    version = trtexec.version_of(told)
    if version is None:
        raise DeviceError("trtexec does not tell its version", wanted="[TensorRT v...] in its first line")
    return f"{version[0]}.{version[1]}"


def _recorded(path: Path) -> str:
    try:
        return str(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _is_whole(path: Path) -> bool:
    return _recorded(path) == whole.sha256_file(path)

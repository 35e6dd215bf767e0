"""What to do with a bundle next, in one line that can be copied."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from slimdeploy.backends.protocol import INPUT
from slimdeploy.records import ModelSpec, Target

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where every JetPack puts it
ENGINE = "model.engine"


def next_step(target: Target, graph: Mapping[str, Any], bundle: str) -> str:
    """Return what to do next with an exported bundle, for a person.

    Args:
        target: what the bundle is for.
        graph: the manifest's entry of the graph to use: its `file`, and for TensorRT its `build`.
        bundle: path of the bundle's folder, `/` between its parts.
    """
    model = str(graph["file"])
    if target.runtime == "tensorrt":
        name = bundle.rstrip("/").rsplit("/", 1)[-1]
        where = "copy the folder to the board and run beside it" if target.kind == "jetson" else "build the engine"
        command = str(graph["build"]).replace(f"--onnx={model}", f"--onnx={shlex.quote(f'{name}/{model}')}")
        return f"{where}: {command}"
    backend = "" if target.runtime == "onnxruntime" else f" --backend {target.runtime}"
    return f"measure it: slimdeploy bench {shlex.quote(f'{bundle}/{model}')}{backend}"


def build_command(tensorrt: tuple[str, ...], precision: str, model: str, *, body: str = "float32") -> str:
    """Return the trtexec command that builds an engine from a model whose precision lies in its graph.

    A typed fp16 graph needs `--fp16` up to TensorRT 8, where every graph is weakly typed. TensorRT 10 reads types with
    `--stronglyTyped` and still knows `--fp16`; from 11 on types always hold, `--fp16` is gone and `--stronglyTyped`
    does nothing. An int8 graph with a float32 body is for the versions before 10, one with a float16 body for the later
    ones.

    Args:
        tensorrt: versions that the target may have, such as ("8.5.2", "10.3.0").
        precision: of the model.
        model: its path on the board.
        body: of an int8 graph: `float32` or `float16`.

    Source: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, releases 8.2 to 11.1.
    """
    command = f"{TRTEXEC} --onnx={shlex.quote(model)} --saveEngine={ENGINE}"
    majors = {int(version.split(".")[0]) for version in tensorrt} or {8, 10}
    if precision == "int8" and body == "float32":
        return f"{command} --int8 --fp16"
    if precision == "int8":
        majors = {major for major in majors if major >= 10} or {10}
    if precision == "fp32" or min(majors) > 10:
        return command
    if min(majors) >= 10:
        return f"{command} --stronglyTyped"
    return f"{command} --fp16" + ("  # without --fp16 on TensorRT 11" if max(majors) > 10 else "")


def with_shapes(command: str, spec: ModelSpec) -> str:
    """Return a trtexec command that also says how many images a call may hold, where the graph leaves that open."""
    if not spec.dynamic_batch:
        return command
    least, most = (f"{INPUT}:{batch}x3x{spec.imgsz[0]}x{spec.imgsz[1]}" for batch in (1, spec.batch))
    plain, comment, rest = command.partition("  #")
    return f"{plain} --minShapes={least} --optShapes={most} --maxShapes={most}{comment}{rest}"

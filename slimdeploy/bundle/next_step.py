"""What to do with a bundle next, in one line that can be copied."""

from __future__ import annotations

import shlex

from slimdeploy.records import Target

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where every JetPack puts it
ENGINE = "model.engine"


def next_step(target: Target, precision: str, bundle: str, model: str) -> str:
    """Return what to do next with an exported bundle, for a person.

    Args:
        target: what the bundle is for.
        precision: of the model.
        bundle: path of the bundle's folder, `/` between its parts.
        model: name of the model's file in it.
    """
    if target.runtime == "tensorrt":
        name = bundle.rstrip("/").rsplit("/", 1)[-1]
        where = "copy the folder to the board and run beside it" if target.kind == "jetson" else "build the engine"
        return f"{where}: {build_command(target.tensorrt, precision, f'{name}/{model}')}"
    backend = "" if target.runtime == "onnxruntime" else f" --backend {target.runtime}"
    return f"measure it: slimdeploy bench {shlex.quote(f'{bundle}/{model}')}{backend}"


def build_command(tensorrt: tuple[str, ...], precision: str, model: str) -> str:
    """Return the trtexec command that builds an engine from a model whose precision lies in its graph.

    A typed fp16 graph needs `--fp16` up to TensorRT 8, where every graph is weakly typed. TensorRT 10 reads types with
    `--stronglyTyped` and still knows `--fp16`; from 11 on types always hold, `--fp16` is gone and `--stronglyTyped`
    does nothing.

    Args:
        tensorrt: versions that the target may have, such as ("8.5.2", "10.3.0").
        precision: of the model.
        model: its path on the board.

    Source: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, releases 8.2 to 11.1.
    """
    command = f"{TRTEXEC} --onnx={shlex.quote(model)} --saveEngine={ENGINE}"
    majors = {int(version.split(".")[0]) for version in tensorrt} or {8, 10}
    if precision == "fp32" or min(majors) > 10:
        return command
    if min(majors) >= 10:
        return f"{command} --stronglyTyped"
    return f"{command} --fp16" + ("  # without --fp16 on TensorRT 11" if max(majors) > 10 else "")

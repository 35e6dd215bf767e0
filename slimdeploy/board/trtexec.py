"""The trtexec command that builds an engine, by TensorRT's version, where its Python module is not there.

Source: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, releases 8.2 to 11.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from slimdeploy.board.tensorrt_calls import NO_DLA

WORKSPACE_MIB = 1024
_BANNER = re.compile(r"TensorRT v(\d+)\]")


@dataclass(frozen=True)
class Files:
    """What trtexec reads and writes.

    Attributes:
        onnx: the graph.
        engine: where the engine goes.
        timing_cache: what earlier builds learned; made where it is missing.
    """

    onnx: Path
    engine: Path
    timing_cache: Path


def command(
    trtexec: Path, version: tuple[int, int], files: Files, *, precision: str, dla_core: int = NO_DLA
) -> list[str]:
    """Return the command.

    Args:
        trtexec: the program.
        version: major and minor version of TensorRT.
        files: what it reads and writes.
        precision: `fp32`, `fp16` or `int8`; it lies in the graph.
        dla_core: a deep-learning accelerator, or `NO_DLA`.
    """
    argv = [str(trtexec), f"--onnx={files.onnx}", f"--saveEngine={files.engine}"]
    argv.append(f"--timingCacheFile={files.timing_cache}")
    argv.append(f"--memPoolSize=workspace:{WORKSPACE_MIB}" if version >= (8, 4) else f"--workspace={WORKSPACE_MIB}")
    argv.append("--skipInference" if version >= (8, 6) else "--buildOnly")
    if version[0] == 10:
        argv.append("--stronglyTyped")
    elif version[0] < 10 and precision != "fp32":
        argv += ["--fp16", *(["--int8"] if precision == "int8" else [])]
    if dla_core != NO_DLA:
        argv += [f"--useDLACore={dla_core}", "--allowGPUFallback"]
    return argv


def version_of(banner: str) -> tuple[int, int] | None:
    """Return major and minor version from what trtexec prints first, `[TensorRT v8502]` or `[TensorRT v100300]`."""
    found = _BANNER.search(banner)
    if not found:
        return None
    number = int(found.group(1))
    major, rest = divmod(number, 10_000 if number >= 100_000 else 1_000)
    return major, rest // 100

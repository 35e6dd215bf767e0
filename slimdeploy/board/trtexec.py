"""The trtexec command that builds an engine, by TensorRT's version, where its Python module is not there.

Source: samples/common/sampleOptions.cpp of NVIDIA/TensorRT, releases 8.2 to 11.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from slimdeploy.board.tensorrt_calls import NO_DLA, least_shape

WORKSPACE_MIB = 1024
_BANNER = re.compile(r"TensorRT v(\d+)\]")


@dataclass(frozen=True)
class Files:
    """What trtexec reads and writes.

    Attributes:
        onnx: the graph.
        engine: where the engine goes.
        timing_cache: what earlier builds learned; made where it is missing.
        shapes: of each input that leaves its number of images open: the largest, which the engine is made best for.
    """

    onnx: Path
    engine: Path
    timing_cache: Path
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


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
    argv += _shapes(files.shapes, dla_core)
    argv.append("--skipInference" if version >= (8, 6) else "--buildOnly")
    if version[0] == 10:
        argv.append("--stronglyTyped")
    elif version[0] < 10 and precision != "fp32":
        argv += ["--fp16", *(["--int8"] if precision == "int8" else [])]
    if dla_core != NO_DLA:
        argv += [f"--useDLACore={dla_core}", "--allowGPUFallback"]
    return argv


def _shapes(shapes: Mapping[str, tuple[int, ...]], dla_core: int) -> list[str]:
    """The three options that an open number of images needs; a graph without one takes none of them."""
    if not shapes:
        return []
    least = {name: least_shape(shape, dla_core) for name, shape in shapes.items()}
    return [f"--{which}Shapes={_told(one)}" for which, one in (("min", least), ("opt", shapes), ("max", shapes))]


def _told(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def version_of(banner: str) -> tuple[int, int] | None:
    """Return major and minor version from what trtexec prints first, `[TensorRT v8502]` or `[TensorRT v100300]`."""
    found = _BANNER.search(banner)
    if not found:
        return None
    number = int(found.group(1))
    major, rest = divmod(number, 10_000 if number >= 100_000 else 1_000)
    return major, rest // 100

"""Time of each layer of a TensorRT engine, by trtexec: TensorRT's Python module brings no profiler with widths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slimdeploy.board import trtexec
from slimdeploy.board.machine import Machine
from slimdeploy.errors import ArtifactError, MissingDependency
from slimdeploy.records import LayerTime

PROGRAM = "trtexec"
PROFILE, LAYERS = "profile.json", "layers.json"
TIMEOUT_S = 3600.0  # it builds the engine once more, with the layers' descriptions in it
BUILD_ALONE = ("--skipInference", "--buildOnly")


def profile(
    machine: Machine, version: str, files: trtexec.Files, *, precision: str, calls: int
) -> tuple[LayerTime, ...]:
    """Return the mean time of each layer.

    Args:
        machine: where trtexec is looked for.
        version: of TensorRT.
        files: the graph, and where the engine and what the build learned go; the profile goes beside the engine.
        precision: of the graph.
        calls: timed calls.

    Raises:
        MissingDependency: there is no trtexec.
        AgentError: trtexec fails.
        ArtifactError: what it wrote is no profile.
    """
    program = machine.program(PROGRAM)
    if program is None:
        raise MissingDependency(
            "TensorRT's layers are timed by trtexec, which is not here",
            wanted="trtexec, as NVIDIA's packages of TensorRT bring it",
            do="install libnvinfer-bin, or leave --profile out",
        )
    major, minor = (int(part) for part in version.split(".")[:2])
    built = trtexec.command(program, (major, minor), files, precision=precision)
    folder = files.engine.parent
    machine.ask(PROGRAM, *profiling(built[1:], folder, calls), timeout_s=TIMEOUT_S)
    return parse(_read(folder / PROFILE), _read(folder / LAYERS))


def profiling(build_options: Sequence[str], folder: Path, calls: int) -> list[str]:
    """Return the options of a build that goes on to time the layers, the whole calls not among them."""
    kept = [option for option in build_options if option not in BUILD_ALONE]
    return [
        *kept, "--profilingVerbosity=detailed", "--separateProfileRun", f"--iterations={calls}", "--duration=0",
        f"--exportProfile={folder / PROFILE}", f"--exportLayerInfo={folder / LAYERS}",
    ]  # fmt: skip


def parse(told: Any, layers: Any = None) -> tuple[LayerTime, ...]:
    """Return the layers of what `trtexec --exportProfile` wrote.

    Args:
        told: its JSON: an array, whose first element counts the calls and whose others are layers.
        layers: the JSON of `--exportLayerInfo`, which brings operators and widths; None leaves them out.

    Raises:
        ArtifactError: the JSON is no profile of trtexec.
    """
    known = _layer_info(layers)
    try:
        entries = [entry for entry in told if "count" not in entry]
        return tuple(
            LayerTime(
                name=entry["name"],
                operator=known.get(entry["name"], ("", None))[0],
                seconds=float(entry["averageMs"]) / 1000,
                width=known.get(entry["name"], ("", None))[1],
            )
            for entry in entries
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"this is no profile of trtexec: {error!r}", wanted="what trtexec --exportProfile=FILE writes"
        ) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"trtexec wrote no {path.name}: {error}", wanted="TensorRT 8.5 or newer") from error


def _layer_info(layers: Any) -> dict[str, tuple[str, int | None]]:
    """Operators and widths by the layer's name; without --profilingVerbosity=detailed there are names alone."""
    entries: Iterable[Any] = layers.get("Layers", []) if isinstance(layers, Mapping) else []
    found: dict[str, tuple[str, int | None]] = {}
    for entry in entries:
        if isinstance(entry, Mapping) and "Name" in entry:
            outputs = entry.get("Outputs") or [{}]
            shape = outputs[0].get("Dimensions", []) if isinstance(outputs[0], Mapping) else []
            found[str(entry["Name"])] = (str(entry.get("LayerType", "")), int(shape[1]) if len(shape) > 1 else None)
    return found

"""What a bundle brings for other people's pipelines: `--with deepstream,triton,ros2`, a folder of the bundle each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slimdeploy._needs import needs
from slimdeploy.board.text import brief
from slimdeploy.bundle import ros2, triton
from slimdeploy.bundle.dropin import Model
from slimdeploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class DropIn:
    """One pipeline that a bundle can serve.

    Attributes:
        write: puts its files into a folder of their own.
        refusal: says why a model cannot serve it, or "".
    """

    write: Callable[[Model, Path], None]
    refusal: Callable[[Model], str]


def _deepstream(model: Model, folder: Path) -> None:
    with needs("onnx"):
        from slimdeploy.bundle import deepstream
    deepstream.write(model, folder)


def _deepstream_refusal(model: Model) -> str:
    """Return why nvinfer cannot show a model's classes, or ""; it takes what follows a semicolon for another label."""
    split = next((name for name in model.classes if ";" in name), None)
    return "" if split is None else f"nvinfer ends a label at a semicolon, and a class is called {brief(split)}"


DROPINS: Mapping[str, DropIn] = {
    "deepstream": DropIn(write=_deepstream, refusal=_deepstream_refusal),
    "triton": DropIn(write=triton.write, refusal=lambda _model: ""),
    "ros2": DropIn(write=ros2.write, refusal=ros2.refusal),
}


def parse(text: str) -> tuple[str, ...]:
    """Return the names in `deepstream,triton`, each once.

    Raises:
        UsageError: one of them is not known.
    """
    names = tuple(dict.fromkeys(name for name in re.split(r"[,\s]+", text) if name))
    for name in names:
        if name not in DROPINS:
            raise UsageError(f"no drop-in is called {name!r}", wanted=f"one or more of {', '.join(DROPINS)}")
    return names


def require_possible(names: Iterable[str], model: Model) -> None:
    """Raise UsageError if a model cannot serve one of the pipelines; the message says why."""
    for name in names:
        if model.task != "detect":
            raise UsageError(f"{name} for a network of the task {model.task!r}", wanted="a detector")
        if reason := DROPINS[name].refusal(model):
            raise UsageError(f"{name} cannot take this model: {reason}", do=f"leave {name} out of --with")


def write_dropins(names: Iterable[str], model: Model, folder: Path) -> None:
    """Write the files of each drop-in into a folder of its name below a bundle's folder."""
    for name in names:
        (folder / name).mkdir()
        DROPINS[name].write(model, folder / name)

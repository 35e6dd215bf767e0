"""A training on disk: how it goes about its work, and its last whole epoch, from which it can go on.

In the working folder lie `setup.json` (how this attempt trains), `state.pt` (everything of the last whole epoch) and
`best-N.pt` (the weights of the best epoch so far). Each is replaced in one step, so a process that is killed at any
moment leaves whole ones; `state.pt` names the `best-N.pt` that belongs to it.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slimdeploy.errors import UsageError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, parse_json, read_bytes, why_malformed
from slimdeploy.lineage import write_json
from slimdeploy.outputs import whole_file

LIMIT_BYTES = 16 << 20
SETUP, STATE, FAILURE = "setup.json", "state.pt", "failure.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How an attempt trains, where that is more than ultralytics' own settings hold.

    Attributes:
        batch: images that go through the network at once.
        accumulate: batches an optimizer step.
        workers: data-loader processes.
        lr_factor: what the learning rate is multiplied by.
        compute: number format on a CPU: `float32` or `bfloat16`.
        penalty: form, scope, sr and schedule of the penalty on the scales; {} without one.
        trust: whether a teacher's file may name anything.
        mended: what went wrong in earlier attempts and what was done: objects of epoch, wrong and did.
    """

    batch: int
    accumulate: int
    workers: int
    lr_factor: float = 1.0
    compute: str = "float32"
    penalty: dict[str, Any] = dataclasses.field(default_factory=dict)
    trust: bool = False
    mended: tuple[dict[str, Any], ...] = ()


def write_setup(folder: Path, setup: Setup) -> None:
    """Write how the next attempt trains."""
    write_json(folder / SETUP, dataclasses.asdict(setup))


def read_setup(folder: Path) -> Setup:
    """Return what `write_setup` wrote."""
    path = folder / SETUP
    plain = parse_json(read_bytes(path, what="training's setup", limit_bytes=LIMIT_BYTES), where=str(path))
    try:
        setup = Setup(**{**plain, "mended": tuple(plain["mended"])})
        require(setup)
    except MALFORMED as error:
        raise UsageError(f"{path} is damaged: {why_malformed(error)}", do="begin the training again") from error
    return setup


def has_setup(folder: Path) -> bool:
    """Return whether an attempt was begun in this folder."""
    return (folder / SETUP).exists()


def write_state(folder: Path, state: dict[str, Any], best: dict[str, torch.Tensor] | None) -> None:
    """Write a whole epoch.

    Args:
        folder: the working folder.
        state: tensors and plain values; `best` names the file of the best weights.
        best: the weights to keep as the best ones, where this epoch is the best so far.
    """
    if best is not None:
        _replace(folder / state["best"], best)
    _replace(folder / STATE, state)
    for old in folder.glob("best-*.pt"):
        if old.name != state["best"]:
            old.unlink()


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return the last whole epoch, or None before the first one is whole."""
    return _read(folder / STATE) if (folder / STATE).exists() else None


def read_best(folder: Path, state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of the best epoch that a state knows of."""
    return _read(folder / state["best"])


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _replace(path: Path, contents: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    with whole_file(path, replace=True) as partial:
        partial.write_bytes(buffer.getbuffer())

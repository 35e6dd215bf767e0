"""What a stage is cached under, and whether it measures."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from slimdeploy.configs import FIGURES
from slimdeploy.lineage import fingerprint, versions
from slimdeploy.pipeline import Step

MAKING, MEASURING = "make", "measure"
BOARD = "board"  # what the folder of a measurement on a board begins with, before its address
BOUND_TO = ("slimdeploy", "torch", "ultralytics")  # another version of these would make something else


def kind_of(step: Step) -> str:
    """Return MEASURING for a stage that times anything on this machine, which must be alone on its cores."""
    if step.stage in ("bench", "latency"):
        return MEASURING
    return MEASURING if step.stage == "prune" and step.config.budget[0] in FIGURES else MAKING


def key_of(step: Step) -> str:
    """Return where a stage's outcome lies below a cache: its name, and a hash of all that the outcome hangs on.

    That is its settings, the hashes of what it reads and the versions that matter; of a measurement also the machine,
    and the board's address, which stands in the step's folder.
    """
    known = versions()
    told: list[Any] = [
        fingerprint(step.stage, step.config, step.inputs), [known.get(name) for name in BOUND_TO],
    ]  # fmt: skip
    if kind_of(step) == MEASURING:
        told += [step.folder, machine()]
    return f"{step.stage}/{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]}"


def machine() -> list[Any]:
    """Return what of this machine a latency hangs on."""
    from slimdeploy.bench.environment import environment

    known = environment()
    gpus = [card.get("name") for card in known.get("gpus", [])]
    return [known.get("cpu_model"), known.get("cores_usable"), known.get("machine"), gpus]

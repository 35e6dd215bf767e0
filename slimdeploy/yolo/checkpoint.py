"""Open and write ultralytics checkpoints: safely in, ordinary out, and never regrown when pruned."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn.tasks import BaseModel

from slimdeploy.errors import CheckpointError
from slimdeploy.lineage import sha256_file
from slimdeploy.records import Checkpoint
from slimdeploy.yolo import archives, bounds, fields, soundness, trusted
from slimdeploy.yolo.fields import PLANNED_LATENCY
from slimdeploy.yolo.regular import open_checkpoint

# The first module name in a pruned network's saved architecture. No module is called that, so stock training, which
# rebuilds a dense network from the architecture, stops with this sentence in a KeyError.
PRUNED_MARK = "this network is pruned and stock training would regrow it: train it with 'slimdeploy finetune'"


def load(path: Path, *, trust: bool = False) -> tuple[nn.Module, Checkpoint]:
    """Open a YOLO checkpoint.

    Args:
        path: a .pt file that ultralytics or slimdeploy wrote.
        trust: unpickle whatever the file names. Without it, only tensors, settings and the known torch and ultralytics
            layers are rebuilt, and nothing that the file names is called.

    Returns:
        The network, float32 and in eval mode on the CPU, and what is known of the file.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe or no YOLO, its fields do not fit its network, or the
            network does not run on colour images or has weights that are no finite numbers.
    """
    if path.suffix != ".pt":
        raise CheckpointError(f"{path} is no .pt file", wanted="an ultralytics checkpoint, such as best.pt")
    with open_checkpoint(path) as stream:
        if trust:
            contents = trusted.read(stream, path)
        else:
            contents = archives.read(stream, path)
            bounds.require_bounded(contents, path)
    module = _network_of(contents, path)
    return module, _describe(module, path)


def _network_of(contents: Any, path: Path) -> nn.Module:
    held = (contents.get("ema"), contents.get("model")) if isinstance(contents, Mapping) else ()
    module: Any = next((value for value in held if isinstance(value, nn.Module)), None)
    module = getattr(module, "student_model", module)  # a distilled network keeps its student
    described = isinstance(getattr(module, "yaml", None), dict) and hasattr(module, "names")
    if not isinstance(module, BaseModel) or not described:
        raise CheckpointError(f"{path} holds no YOLO network", wanted="a checkpoint that ultralytics wrote")
    fields.require_fields(module, path)
    module = module.float().eval()
    soundness.require_sound(module, path)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def _describe(module: nn.Module, path: Path) -> Checkpoint:
    return Checkpoint(
        path=str(path),
        sha256=sha256_file(path),
        task=module.task,
        classes=class_names(module),
        stride=int(max(module.stride)),
        parameters=count_parameters(module),
        size_bytes=path.stat().st_size,
        pruned=is_pruned(module),
        planned_latency=getattr(module, PLANNED_LATENCY, None),
        kpt_shape=fields.keypoint_shape(module.model[-1]),
    )


def class_names(module: nn.Module) -> tuple[str, ...]:
    """Return a network's class names in label order."""
    names = module.names
    return tuple(str(names[i]) for i in sorted(names)) if isinstance(names, dict) else tuple(names)


def count_parameters(module: nn.Module) -> int:
    """Return how many scalars training changes."""
    return sum(p.numel() for p in module.parameters())


def is_pruned(module: nn.Module) -> bool:
    """Return whether slimdeploy removed channels from this network."""
    backbone = module.yaml.get("backbone") or [[None, None, None]]
    return bool(backbone[0][2] == PRUNED_MARK)


def note_latency(module: nn.Module, planned: Mapping[str, Any]) -> None:
    """Keep what a plan said of a network's latency with the network, through fine-tuning and saving.

    Args:
        module: the network.
        planned: plain JSON values.
    """
    setattr(module, PLANNED_LATENCY, dict(planned))


def mark_pruned(module: nn.Module) -> None:
    """Make stock training refuse this network instead of silently regrowing it."""
    if not is_pruned(module):
        module.yaml = copy.deepcopy(module.yaml)
        module.yaml["backbone"][0] = [-1, 1, PRUNED_MARK, []]


def save(module: nn.Module, path: Path, *, origin: Mapping[str, Any]) -> None:
    """Write an ordinary ultralytics checkpoint.

    Weights are written as float16, ultralytics' own choice, where that loses nothing, and as float32 otherwise.

    Args:
        module: the network; it is not changed.
        path: the .pt file to write.
        origin: what to remember of its making; plain JSON values.
    """
    snapshot = copy.deepcopy(module).eval()
    snapshot.criterion = None
    if _fits_float16(snapshot):
        snapshot.half()
    for parameter in snapshot.parameters():
        parameter.requires_grad_(False)
    contents = {
        "epoch": -1,
        "best_fitness": None,
        "model": snapshot,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": dict(_train_args(module)),
        "date": datetime.now(timezone.utc).isoformat(),
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "slimdeploy": dict(origin),
    }
    buffer = io.BytesIO()  # torch's own writer answers a full disk with a RuntimeError of many lines
    torch.save(contents, buffer)
    path.write_bytes(buffer.getbuffer())


def _fits_float16(module: nn.Module) -> bool:
    floats = (t for t in module.state_dict().values() if t.is_floating_point())
    return all(torch.equal(t.half().float(), t) for t in floats)


def _train_args(module: nn.Module) -> Mapping[str, Any]:
    args = getattr(module, "args", {})
    values = args if isinstance(args, Mapping) else vars(args)
    known = ("imgsz", "task", "single_cls", "overlap_mask", "mask_ratio")
    return {k: values[k] for k in known if k in values} | {"task": module.task, "mode": "train"}

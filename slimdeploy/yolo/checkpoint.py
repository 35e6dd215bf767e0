"""Open and write ultralytics checkpoints: safely in, ordinary out, and never regrown when pruned."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn.tasks import guess_model_task, torch_safe_load
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_yolov5u_filename

from slimdeploy.errors import CheckpointError
from slimdeploy.lineage import sha256_file
from slimdeploy.records import Checkpoint

# The first module name in a pruned network's saved architecture. No module is called that, so stock training, which
# rebuilds a dense network from the architecture, stops with this sentence in a KeyError.
PRUNED_MARK = "this network is pruned and stock training would regrow it: train it with 'slimdeploy finetune'"

PLANNED_LATENCY = "slimdeploy_planned_latency"  # an attribute of a network, which copies and training carry along

# What torch's unpicklers raise on bytes that are no checkpoint; they trust their input to be well-formed.
_UNREADABLE = (
    RuntimeError, EOFError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError,
    ImportError, OSError, struct.error, pickle.UnpicklingError,
)  # fmt: skip
# How a file that torch.save wrote starts: a zip archive, or before torch 1.6 a pickle of its magic number.
_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")


def load(path: Path, *, trust: bool = False) -> tuple[nn.Module, Checkpoint]:
    """Open a YOLO checkpoint.

    Args:
        path: a .pt file that ultralytics or slimdeploy wrote.
        trust: unpickle whatever the file names. Without it, only tensors and the known torch and ultralytics
            classes are built.

    Returns:
        The network, float32 and in eval mode on the CPU, and what is known of the file.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe or no YOLO.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}", wanted="a .pt file of a YOLO detector")
    if path.suffix != ".pt":
        raise CheckpointError(f"{path} is no .pt file", wanted="an ultralytics checkpoint, such as best.pt")
    _require_own_name(path)
    module = _network_of(_unpickle(path, trust=trust), path)
    return module, _describe(module, path)


def _require_own_name(path: Path) -> None:
    """Refuse a file in whose place ultralytics would open another, or download it: of yolov5n.pt, yolov5nu.pt."""
    taken = Path(check_yolov5u_filename(str(path), verbose=False).strip().replace("'", ""))
    if taken != path:
        raise CheckpointError(
            f"ultralytics would open {taken} in place of {path}", wanted="another file name", do="rename it"
        )


def _unpickle(path: Path, *, trust: bool) -> Any:
    with path.open("rb") as stream:
        if not stream.read(max(map(len, _STARTS))).startswith(_STARTS):
            raise _damaged(path)
    try:
        with _quiet():
            contents, _ = torch_safe_load(str(path), safe_only=not trust)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} needs the module {error.name or str(error).splitlines()[0]}, which is not installed",
            wanted="a .pt file that ultralytics wrote",
            do="install it, or train the network again with the installed ultralytics",
        ) from error
    except _UNREADABLE as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error.__cause__))  # torch's word for a class or function
        if refused and not trust:
            raise CheckpointError(
                f"{path} names {refused[1]}, which is no tensor and no known torch or ultralytics class",
                wanted="a checkpoint that ultralytics wrote",
                do="pass --trust only if you know who made the file: opening it can run any code",
            ) from error
        raise _damaged(path) from error
    return contents


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be opened: it is truncated, damaged or no checkpoint",
        wanted="a .pt file that ultralytics wrote",
        do="copy or train it again",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ultralytics and torch say about a file off stdout and out of the way: errors here say it once."""
    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)


def _network_of(contents: Any, path: Path) -> nn.Module:
    held = (contents.get("ema"), contents.get("model")) if isinstance(contents, Mapping) else ()
    module: Any = next((one for one in held if isinstance(one, nn.Module)), None)
    module = getattr(module, "student_model", module)  # a distilled network keeps its student
    if not isinstance(getattr(module, "yaml", None), dict) or not hasattr(module, "names"):
        raise CheckpointError(f"{path} holds no YOLO network", wanted="a checkpoint that ultralytics wrote")
    module = module.float().eval()
    module.task = getattr(module, "task", None) or guess_model_task(module)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module


def _describe(module: nn.Module, path: Path) -> Checkpoint:
    return Checkpoint(
        path=str(path),
        sha256=sha256_file(path),
        task=str(module.task),
        classes=class_names(module),
        stride=int(max(module.stride)),
        parameters=count_parameters(module),
        size_bytes=path.stat().st_size,
        pruned=is_pruned(module),
        planned_latency=getattr(module, PLANNED_LATENCY, None),
        kpt_shape=_kpt_shape(module),
    )


def _kpt_shape(module: nn.Module) -> tuple[int, int] | None:
    shape = getattr(module.model[-1], "kpt_shape", None)
    return None if shape is None else (int(shape[0]), int(shape[1]))


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

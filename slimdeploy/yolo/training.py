"""Train a network as it is, to the end: what can be mended on the way is mended, from the last whole epoch on."""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from slimdeploy.configs import MOMENTUM, FinetuneConfig, SparsifyConfig, TrainConfig
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.image_files import problem_of
from slimdeploy.errors import CheckpointError, StageFailed, UsageError
from slimdeploy.lineage import read_json
from slimdeploy.yolo import compute, failures, process, progress, training_data
from slimdeploy.yolo.gammas import FEWEST_LIVE, LIVE_FROM
from slimdeploy.yolo.teacher import Teacher
from slimdeploy.yolo.trainers import KeepingTrainer
from slimdeploy.yolo.training_data import write_lists

NONFINITE_RETRIES = 2

log = logging.getLogger("slimdeploy.train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left.

    Attributes:
        network: the weights asked for, float32, in eval mode.
        epochs: one object an epoch: losses, scores, seconds, and shares of small BatchNorm scales.
        best_epoch: the epoch with the best fitness.
        setup: how the last attempt trained; `mended` says what went wrong before it.
    """

    network: nn.Module
    epochs: tuple[dict[str, Any], ...]
    best_epoch: int
    setup: progress.Setup


def new_network(architecture: str, classes: tuple[str, ...], *, seed: int) -> nn.Module:
    """Return a network with new weights.

    Args:
        architecture: an ultralytics model YAML, such as `yolov8n.yaml`.
        classes: class names, in label order.
        seed: of the weights.

    Raises:
        CheckpointError: ultralytics knows no such architecture.
    """
    torch.manual_seed(seed)
    LOGGER.setLevel(logging.ERROR)
    try:
        module = DetectionModel(architecture, nc=len(classes), verbose=False)
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise CheckpointError(f"no architecture {architecture!r}", wanted="one such as yolov8n.yaml") from error
    module.names = dict(enumerate(classes))
    module.task = "detect"
    return module


def with_new_weights(module: nn.Module, *, seed: int) -> nn.Module:
    """Return a network of the same shape whose weights are drawn anew, as ultralytics draws them."""
    fresh = copy.deepcopy(module)
    torch.manual_seed(seed)
    for path, layer in fresh.named_modules():
        if hasattr(layer, "reset_parameters") and ".dfl" not in path:  # DFL's weights are fixed
            layer.reset_parameters()
    fresh.model[-1].bias_init()
    return fresh


def train(
    module: nn.Module,
    data: Dataset,
    config: TrainConfig,
    folder: Path,
    *,
    teacher: Teacher | None = None,
    keep: str = "best",
) -> Trained:
    """Train a detector in its present shape, or go on where an earlier process stopped in this folder.

    Args:
        module: the network; it is not changed.
        data: the data set; its lists are written into `folder`, and nothing else is read.
        config: how to train; a SparsifyConfig brings its penalty.
        folder: an existing folder to work in; empty, or of a training with the same arguments.
        teacher: network to distil from.
        keep: `best` or `last`: which epoch's weights to return.

    Raises:
        DataError: an image does not decode, or a split is not there.
        StageFailed: the loss stayed no finite number, memory ran out at a batch of 1, or training broke down.
        UsageError: the task is not `detect`, or the penalty left a layer too few live channels.
    """
    if module.task != "detect":
        raise UsageError(f"a network for the task {module.task!r}", wanted="a detector")
    process.keep_freed_memory()
    write_lists(folder, data)
    if not progress.has_setup(folder):
        progress.write_setup(folder, first_setup(config, teacher))
    while not (progress.read_state(folder) or {}).get("finished"):
        failure = _attempt(module, config, folder, teacher)
        if failure is not None:
            _free_memory()
            progress.write_setup(folder, _mended(failure, progress.read_setup(folder), folder))
        elif not (progress.read_state(folder) or {}).get("finished"):
            raise StageFailed("training ended without its last epoch", do="look at the epochs printed above")
    return trained(module, config, folder, keep=keep)


def trained(module: nn.Module, config: TrainConfig, folder: Path, *, keep: str) -> Trained:
    """Return the weights of the last whole epoch in a folder, or of the best one up to then, in a module's shape."""
    state = progress.read_state(folder)
    assert state is not None  # there is a whole epoch
    weights = progress.read_best(folder, state) if keep == "best" and state["best"] else state["ema"]
    network = copy.deepcopy(module).float()
    held = {k.removeprefix("student_model."): v for k, v in weights.items() if not k.startswith("projector.")}
    network.load_state_dict(held)
    network.args = {"imgsz": config.imgsz, "task": module.task}
    best_epoch = int(state["best"].removeprefix("best-").removesuffix(".pt") or 0)
    return Trained(
        network=network.eval(),
        epochs=tuple(state["history"]),
        best_epoch=best_epoch,
        setup=progress.read_setup(folder),
    )


def first_setup(config: TrainConfig, teacher: Teacher | None) -> progress.Setup:
    """Return how the first attempt of a training goes about it."""
    on_cpu = _device(config) == "cpu"
    penalty = {}
    if isinstance(config, SparsifyConfig):
        penalty = {"form": config.penalty, "scope": config.scope, "sr": config.sr, "schedule": config.schedule}
    return progress.Setup(
        batch=config.batch,
        accumulate=config.accumulate,
        workers=config.workers,
        compute=compute.cpu_format() if on_cpu and config.amp and teacher is None else "float32",
        penalty=penalty,
        trust=teacher is not None and teacher.trust,
    )


def _attempt(module: nn.Module, config: TrainConfig, folder: Path, teacher: Teacher | None) -> dict[str, Any] | None:
    """Train until the end or until something goes wrong, and return what."""
    (folder / progress.FAILURE).unlink(missing_ok=True)
    trainer = None
    with process.stdout_to_stderr():
        LOGGER.setLevel(logging.ERROR)
        try:
            trainer = KeepingTrainer(overrides=_overrides(config, folder, teacher))
            trainer.model = copy.deepcopy(module)
            trainer.train()
        except subprocess.CalledProcessError as error:  # of ultralytics' launch for several GPUs
            told = folder / progress.FAILURE
            return read_json(told, what="failure") if told.exists() else failures.describe(error, epoch=0)
        except (RuntimeError, FloatingPointError, ValueError, OSError) as error:
            return failures.describe(error, epoch=getattr(trainer, "epoch", -1) + 1)
        finally:
            shutil.rmtree(folder / "ultralytics", ignore_errors=True)
    return None


def _free_memory() -> None:
    """Give back what a failed attempt held, before another one asks for memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _mended(failure: dict[str, Any], setup: progress.Setup, folder: Path) -> progress.Setup:
    """Return how to try again, or raise what cannot be mended."""
    epoch, kind = failure["epoch"], failure["kind"]
    if kind == failures.DYING:
        raise _dying(failure, setup, folder)
    if kind == failures.IMAGE:
        raise problem_of(Path(failure["image"]), "does not decode")
    if kind == failures.MEMORY and setup.batch > 1:
        changes: dict[str, Any] = {"batch": (setup.batch + 1) // 2, "accumulate": setup.accumulate * 2}
        did = f"batch {setup.batch} to {changes['batch']}, gradients of {changes['accumulate']} batches a step"
    elif kind == failures.WORKER and setup.workers > 0:
        changes, did = {"workers": 0}, "images are loaded without worker processes"
    elif kind == failures.NONFINITE and _count(setup, kind) < NONFINITE_RETRIES:
        changes = {"lr_factor": setup.lr_factor / 2}
        did = f"learning rate halved, to {changes['lr_factor']:g} of what was asked"
    else:
        raise _broken(failure, setup)
    log.warning("epoch %d: %s; %s; going on from the last whole epoch", epoch, failure["message"], did)
    note = {"epoch": epoch, "kind": kind, "wrong": failure["message"], "did": did}
    return dataclasses.replace(setup, **changes, mended=(*setup.mended, note))


def _count(setup: progress.Setup, kind: str) -> int:
    return sum(one["kind"] == kind for one in setup.mended)


def _broken(failure: dict[str, Any], setup: progress.Setup) -> StageFailed:
    began = f"training stopped in epoch {failure['epoch']}" if failure["epoch"] else "training did not start"
    what = f"{began}: {failure['message']}"
    remedies = {
        failures.MEMORY: "give a smaller --imgsz, or --device cpu",
        failures.WORKER: "look at the images and at the memory of this machine",
        failures.NONFINITE: f"give a smaller --lr0; it was halved {_count(setup, failures.NONFINITE)} times already",
    }
    otherwise = "look at the epochs printed above" if failure["epoch"] else ""
    return StageFailed(what, do=remedies.get(failure["kind"], otherwise))


def _dying(failure: dict[str, Any], setup: progress.Setup, folder: Path) -> UsageError:
    kept = failure["epoch"] - 1
    return UsageError(
        f"sr {setup.penalty['sr']:g} leaves {failure['layer']} {failure['live']} live channels of {failure['width']} "
        f"(|gamma| of {LIVE_FROM:g} or more) in epoch {failure['epoch']}",
        wanted=f"{FEWEST_LIVE} or more in every layer, half of them in narrow ones",
        do="give a smaller --sr, or fewer --epochs"
        + (f"; epoch {kept}, the last good one, is kept in {folder.parent}" if kept else ""),
    )


def _device(config: TrainConfig) -> str:
    return config.device or ("0" if torch.cuda.is_available() else "cpu")


def _overrides(config: TrainConfig, folder: Path, teacher: Teacher | None) -> dict[str, Any]:
    setup = progress.read_setup(folder)
    overrides = {
        "task": "detect",
        "mode": "train",
        "model": "slimdeploy",  # a name only: the module itself is handed in
        "data": str(folder.resolve() / training_data.FILE),
        "epochs": config.epochs,
        "imgsz": config.imgsz,
        "batch": setup.batch,
        "nbs": setup.batch * setup.accumulate,  # images an optimizer step
        "optimizer": config.optimizer,
        "lr0": config.lr0 * setup.lr_factor,
        "lrf": config.lrf,
        "momentum": MOMENTUM,
        "cos_lr": True,
        "warmup_epochs": config.warmup_epochs,
        "warmup_bias_lr": config.warmup_bias_lr,
        "weight_decay": config.weight_decay,
        "patience": config.patience,
        "close_mosaic": config.close_mosaic,
        "workers": setup.workers,
        "device": _device(config),
        "amp": config.amp and torch.cuda.is_available(),
        "seed": config.seed,
        "plots": False,
        "verbose": False,
        "project": str(folder.resolve()),
        "name": "ultralytics",
        "exist_ok": True,
        "pretrained": False,
    }
    if teacher is not None:
        weight = config.teacher_weight if isinstance(config, FinetuneConfig) else FinetuneConfig().teacher_weight
        overrides |= {"distill_model": str(teacher.path.resolve()), "dis": weight}
    return overrides

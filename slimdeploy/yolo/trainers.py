"""Train a network as it is: ultralytics' loop around a module that is handed in and never rebuilt.

Stock training rebuilds the network from its YAML and loads what fits, which regrows a pruned network without a
word. Here the module itself goes in; ultralytics' `setup_model` leaves a module alone.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import strip_optimizer, unwrap_model

from slimdeploy._cores import usable_cores
from slimdeploy.configs import FinetuneConfig, TrainConfig
from slimdeploy.errors import CheckpointError, StageFailed, UsageError
from slimdeploy.yolo import process
from slimdeploy.yolo.checkpoint import count_parameters
from slimdeploy.yolo.penalty import Penalty, scale_histogram, scale_shares, scales
from slimdeploy.yolo.recalibrate import recalibrate

RECALIBRATION_BATCHES = 16

log = logging.getLogger("slimdeploy.train")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left.

    Attributes:
        best: checkpoint of the epoch with the best fitness.
        last: checkpoint of the last epoch.
        epochs: one object an epoch: losses, scores, seconds, and shares of small BatchNorm scales.
    """

    best: Path
    last: Path
    epochs: tuple[dict[str, Any], ...]


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


def train(
    module: nn.Module,
    data: Path,
    config: TrainConfig,
    folder: Path,
    *,
    penalty: Penalty | None = None,
    teacher: Path | None = None,
) -> Trained:
    """Train a detector in its present shape.

    Args:
        module: the network; it is trained in place.
        data: the data set's YAML.
        config: how to train.
        folder: an existing folder for checkpoints and logs.
        penalty: what acts on the BatchNorm scales at each step.
        teacher: checkpoint to distil from.

    Raises:
        StageFailed: the loss became NaN, or the shape changed.
        UsageError: the task is not `detect`.
    """
    if module.task != "detect":
        raise UsageError(f"a network for the task {module.task!r}", wanted="a detector")
    parameters = count_parameters(module)
    process.keep_freed_memory()
    with process.stdout_to_stderr():
        LOGGER.setLevel(logging.ERROR)
        overrides = _overrides(data, config, folder, teacher)
        trainer = KeepingTrainer(module, penalty, overrides=overrides, cpu_bf16=config.amp and teacher is None)
        try:
            trainer.train()
        except (RuntimeError, FloatingPointError) as error:
            raise StageFailed(f"training stopped: {error}", do="look at the epochs printed above") from error
    if not trainer.epochs_done or not trainer.last.exists():
        raise StageFailed("training wrote no checkpoint", do="look at the epochs printed above")
    if parameters != count_parameters(_student(trainer.ema.ema)):  # what the checkpoints hold
        raise StageFailed("training changed the network's shape", do="report this as a bug")
    return Trained(best=trainer.best, last=trainer.last, epochs=tuple(trainer.epochs_done))


def _overrides(data: Path, config: TrainConfig, folder: Path, teacher: Path | None) -> dict[str, Any]:
    overrides = {
        "task": "detect",
        "mode": "train",
        "model": "slimdeploy",  # a name only: the module itself is handed in
        "data": str(data),
        "epochs": config.epochs,
        "imgsz": config.imgsz,
        "batch": config.batch,
        "nbs": config.batch * config.accumulate,  # images an optimizer step
        "optimizer": config.optimizer,
        "lr0": config.lr0,
        "lrf": config.lrf,
        "cos_lr": True,
        "warmup_epochs": config.warmup_epochs,
        "warmup_bias_lr": config.warmup_bias_lr,
        "weight_decay": config.weight_decay,
        "patience": config.patience,
        "close_mosaic": config.close_mosaic,
        "workers": config.workers,
        "device": config.device or ("0" if torch.cuda.is_available() else "cpu"),
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
        overrides |= {"distill_model": str(teacher), "dis": weight}
    return overrides


class KeepingTrainer(DetectionTrainer):  # type: ignore[misc]
    """ultralytics' detection trainer around a module that it keeps, with a penalty at each optimizer step."""

    def __init__(
        self, module: nn.Module, penalty: Penalty | None, *, overrides: dict[str, Any], cpu_bf16: bool
    ) -> None:
        self._wants_bf16 = cpu_bf16
        super().__init__(overrides=overrides)
        self.model = module
        self.penalty = penalty
        self.epochs_done: list[dict[str, Any]] = []
        self._epoch_started = time.perf_counter()
        self._recent: deque[torch.Tensor] = deque(maxlen=RECALIBRATION_BATCHES)
        self.add_callback("on_fit_epoch_end", _report_epoch)

    def _setup_train(self) -> None:
        super()._setup_train()
        torch.set_num_threads(usable_cores())  # ultralytics' select_device left one core out
        self._scales = scales(_student(self.model))
        if self.device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)
            if self._wants_bf16 and _cpu_computes_bf16():
                student = _student(self.model)
                student._predict_once = partial(_predict_in_bf16, student._predict_once)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise a batch; on a CPU, lay the images out as its convolutions like them."""
        if self.penalty and self.model.training:
            self._recent.append(batch["img"].cpu())  # (B, 3, H, W), uint8
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        return batch

    def optimizer_step(self) -> None:
        """Step, with the penalty after unscaling and outside the clipping norm: right under AMP too."""
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        if self.penalty:
            self.penalty.before_step(self._scales)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.penalty:
            self.penalty.after_step(self._scales, self.optimizer)
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.model)

    def validate(self) -> Any:
        """Score the EMA; under a penalty its BatchNorm statistics lag, so they are measured anew before."""
        if self.penalty:
            ema = self.ema.ema
            recalibrate(ema, (images.to(self.device).float() / 255 for images in self._recent))
        return super().validate()

    def final_eval(self) -> None:
        """Strip the optimizer from both checkpoints; scores come from slimdeploy's own evaluation."""
        for checkpoint in (self.last, self.best):
            if checkpoint.exists():
                strip_optimizer(checkpoint)


def _student(model: nn.Module) -> nn.Module:
    bare = unwrap_model(model)
    return getattr(bare, "student_model", bare)


def _cpu_computes_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; emulated, it would be slower than float32."""
    flags = (getattr(torch.cpu, "_is_avx512_bf16_supported", None), getattr(torch.cpu, "_is_amx_tile_supported", None))
    return any(flag() for flag in flags if flag is not None)


def _predict_in_bf16(predict: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the network in bfloat16 and hand float32 to the loss, whose boxes need more than 8 bits of mantissa."""
    with torch.autocast("cpu", torch.bfloat16):
        outputs = predict(*args, **kwargs)
    return _to_float32(outputs)


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to_float32(item) for item in value)
    return value


def _report_epoch(trainer: KeepingTrainer) -> None:
    now = time.perf_counter()
    network = _student(trainer.ema.ema)
    record = {
        "epoch": trainer.epoch + 1,
        "seconds": round(now - trainer._epoch_started, 2),
        "loss": {k.removeprefix("train/"): v for k, v in trainer.label_loss_items(trainer.tloss).items()},
        "map50": round(float(trainer.metrics.get("metrics/mAP50(B)", 0.0)), 5),
        "map50_95": round(float(trainer.metrics.get("metrics/mAP50-95(B)", 0.0)), 5),
        "scales": {k: round(v, 5) for k, v in scale_shares(network).items()},
        "scale_histogram": scale_histogram(network) if trainer.penalty else None,
    }
    trainer._epoch_started = now
    trainer.epochs_done.append(record)
    losses = " ".join(f"{k.removesuffix('_loss')} {v:.3f}" for k, v in record["loss"].items())
    shares = " ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in record["scales"].items())
    left = (trainer.epochs - trainer.epoch - 1) * record["seconds"]
    log.info(
        "epoch %d/%d  %s  mAP50 %.3f  mAP50-95 %.3f%s  %.0f s, about %.0f min left",
        record["epoch"], trainer.epochs, losses, record["map50"], record["map50_95"],
        f"  scales {shares}" if trainer.penalty else "", record["seconds"], left / 60,
    )  # fmt: skip

"""ultralytics' training loop around a module that it keeps, with a penalty at each step and a whole epoch on disk.

Stock training rebuilds the network from its YAML and loads what fits, which regrows a pruned network without a
word. Here the module itself goes in; ultralytics' `setup_model` leaves a module alone, and its launch of several GPUs
hands it on to every process. How to train travels in `setup.json`, so that those processes find it too.
"""

from __future__ import annotations

import logging
import math
import random
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from ultralytics.engine import trainer as ultralytics_trainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model

from slimdeploy._cores import usable_cores
from slimdeploy.configs import strength_at
from slimdeploy.lineage import write_json
from slimdeploy.yolo import compute, failures, gammas, progress, teacher
from slimdeploy.yolo.penalty import Penalty, make_penalty
from slimdeploy.yolo.recalibrate import recalibrate
from slimdeploy.yolo.training_data import ListedDataset, Record, read_lists

RECALIBRATION_BATCHES = 16
SMALLEST_STRIDE = 32
_EPOCH_STRIDE = 1_000_003  # a prime, so that seeds of epochs and of trainings do not meet

log = logging.getLogger("slimdeploy.train")
ultralytics_trainer.check_amp = compute.amp_works  # its own asks a host for a network to try


class KeepingTrainer(DetectionTrainer):  # type: ignore[misc]
    """ultralytics' detection trainer; the working folder is its `project`."""

    def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
        self.records: Mapping[str, list[Record]] = {}
        super().__init__(cfg, overrides, _callbacks)
        self.folder = Path(self.args.project)
        self.setup = progress.read_setup(self.folder)
        self.penalty: Penalty | None = None
        self.history: list[dict[str, Any]] = []
        self.best_file = ""
        self._recent: deque[torch.Tensor] = deque(maxlen=RECALIBRATION_BATCHES)
        self._pending = self._batch = 0
        self._batches_a_step = self.accumulate = 1
        self._epoch_started = time.perf_counter()
        if RANK >= 0:  # a process of ultralytics' launch for several GPUs, where nobody set up logging
            logging.basicConfig(
                level=logging.INFO if RANK == 0 else logging.ERROR, stream=sys.stderr, format="%(message)s"
            )

    def train(self) -> None:
        """Train; in a process of several, leave word of what went wrong for the one that launched it."""
        try:
            super().train()
        except (RuntimeError, FloatingPointError) as error:
            if RANK >= 0:
                write_json(self.folder / progress.FAILURE, failures.describe(error, epoch=self.epoch + 1))
            raise

    def get_dataset(self) -> dict[str, Any]:
        """Return what the working folder lists, in place of what ultralytics makes of a YAML."""
        lists = read_lists(Path(self.args.project))
        self.records = lists.records
        return lists.settings

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> ListedDataset:
        """Return a split as ultralytics' `build_yolo_dataset` makes it, over the listed images."""
        return ListedDataset(
            img_path=img_path,
            records=self.records[img_path],
            data=self.data,
            imgsz=self.args.imgsz,
            batch_size=batch,
            augment=mode == "train",
            hyp=self.args,
            rect=mode == "val",
            stride=max(int(unwrap_model(self.model).stride.max()), SMALLEST_STRIDE),
            pad=0.0 if mode == "train" else 0.5,
            prefix=f"{mode}: ",
        )

    def run_callbacks(self, event: str) -> None:
        """Do what belongs to an event here, then what the user's callbacks do."""
        if event == "on_train_epoch_start":
            self._begin_epoch()
        elif event == "on_train_batch_end" and not torch.isfinite(self.loss).all():
            raise failures.NonFinite(f"the loss is {float(self.loss.detach())}")
        super().run_callbacks(event)

    def _build_train_pipeline(self) -> None:
        super()._build_train_pipeline()
        self._batches_a_step = int(self.accumulate)
        self.accumulate = 1  # they are counted in `optimizer_step`

    def _setup_train(self) -> None:
        with teacher.opened_here(trust=self.setup.trust):
            super()._setup_train()
        torch.set_num_threads(usable_cores())  # ultralytics' select_device left one core out
        if self.device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)
            self.ema.ema.to(memory_format=torch.channels_last)
            if self.setup.compute == "bfloat16":
                compute.in_bfloat16(student(self.model))
        if self.setup.penalty:
            wanted = {key: self.setup.penalty[key] for key in ("form", "scope", "sr")}
            self.penalty = make_penalty(student(self.model), **wanted)

    def resume_training(self, ckpt: Any) -> None:
        """Go on at the last whole epoch, where there is one."""
        state = progress.read_state(self.folder)
        if state is None:
            return
        unwrap_model(self.model).load_state_dict(state["model"], strict=False)  # a teacher's weights are not in it
        self.ema = ModelEMA(self.model)
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.base_lrs, strict=True):
            group["initial_lr"] = rate  # of this attempt, not of the one that wrote the state
        self.scaler.load_state_dict(state["scaler"])
        self.best_fitness, self.history, self.best_file = state["best_fitness"], state["history"], state["best"]
        self.stopper.__dict__.update(state["stopper"])
        self.start_epoch = state["epoch"] + 1

    def _begin_epoch(self) -> None:
        """Make all that is random in an epoch depend on the seed and its number alone, as resuming needs it."""
        self._pending = self._batch = 0
        self._epoch_started = time.perf_counter()
        self._oom_retries = sys.maxsize  # running out of memory is mended here, from a whole epoch, in any epoch
        self._recent.clear()
        seed = self.args.seed + 1 + RANK + (self.epoch + 1) * _EPOCH_STRIDE
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self.train_loader.reset()
        self.train_loader.generator.manual_seed(seed)
        _refill_mosaics(self.train_loader.dataset)
        if self.penalty:
            self.penalty.sr = strength_at(self.setup.penalty, self.epoch, self.epochs)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise a batch; on a CPU, lay the images out as its convolutions like them."""
        if self.penalty and self.model.training:
            self._recent.append(batch["img"].cpu())  # (B, 3, H, W), uint8
        batch = super().preprocess_batch(batch)
        if self.device.type == "cpu":
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)  # (B, 3, H, W)
        return batch

    def optimizer_step(self) -> None:
        """Step once the batches of a step are together, and after the last of an epoch; the penalty comes once a step.

        It acts after unscaling and outside the clipping norm, which is right under AMP too.
        """
        self._pending, self._batch = self._pending + 1, self._batch + 1
        if self._pending < self._batches_a_step and self._batch < len(self.train_loader):
            return
        self._pending = 0
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
        if self.penalty:
            self.penalty.before_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.penalty:
            self.penalty.after_step(self.optimizer)
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.model)

    def validate(self) -> Any:
        """Score the EMA; under a penalty its BatchNorm statistics lag, so they are measured anew before.

        What is told of the scales joins the metrics, and so reaches the loggers that the user has switched on.
        """
        if self.penalty:
            recalibrate(self.ema.ema, (images.to(self.device).float() / 255 for images in self._recent))
        metrics, fitness = super().validate()
        if self.penalty and metrics is not None:
            shares = gammas.scale_shares(student(self.ema.ema))
            metrics |= {"scales/penalty": self.penalty.value(), **{f"scales/{k}": v for k, v in shares.items()}}
        return metrics, fitness

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if self.fitness is not None and not math.isfinite(self.fitness):
            raise failures.NonFinite(f"the fitness is {self.fitness}")
        return False

    def save_model(self) -> bool:
        """Write the epoch that just ended, in float32, unless the penalty has killed a layer in it."""
        network = student(self.ema.ema)
        if not all(torch.isfinite(v).all() for v in network.state_dict().values()):
            raise failures.NonFinite("a weight is no finite number")
        dying = gammas.dying_layer(network) if self.penalty else None
        if dying is not None:
            raise failures.DyingLayer(*dying, epoch=self.epoch + 1)
        self.history.append(self._record(network))
        is_best = self.fitness == self.best_fitness
        if is_best:
            self.best_file = f"best-{self.epoch + 1}.pt"
        ema = {k: v for k, v in self.ema.ema.state_dict().items() if not k.startswith("teacher_model.")}
        progress.write_state(self.folder, self._state(ema), ema if is_best else None)
        _tell(self.history[-1], self.epochs)
        return True

    def _state(self, ema: dict[str, torch.Tensor]) -> dict[str, Any]:
        model = unwrap_model(self.model).state_dict()
        return {
            "epoch": self.epoch,
            "finished": bool(self.stop),
            "model": {k: v for k, v in model.items() if not k.startswith("teacher_model.")},
            "ema": ema,
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best_file,
            "best_fitness": None if self.best_fitness is None else float(self.best_fitness),
            "stopper": {k: _plain(getattr(self.stopper, k)) for k in ("best_fitness", "best_epoch", "possible_stop")},
            "history": self.history,
        }

    def _record(self, network: nn.Module) -> dict[str, Any]:
        return {
            "epoch": self.epoch + 1,
            "seconds": round(time.perf_counter() - self._epoch_started, 2),
            "loss": {k.removeprefix("train/"): v for k, v in self.label_loss_items(self.tloss).items()},
            "map50": round(float(self.metrics.get("metrics/mAP50(B)", 0.0)), 5),
            "map50_95": round(float(self.metrics.get("metrics/mAP50-95(B)", 0.0)), 5),
            "scales": {k: round(v, 5) for k, v in gammas.scale_shares(network).items()},
            "scale_histogram": gammas.scale_histogram(network) if self.penalty else None,
            "penalty": round(self.penalty.value(), 5) if self.penalty else None,
            "lr": [group["lr"] for group in self.optimizer.param_groups][:1],
        }

    def final_eval(self) -> None:
        """Leave the end to the stage: scores come from slimdeploy's own evaluation."""


def student(model: nn.Module) -> nn.Module:
    """Return the network that is trained, out of what ultralytics wraps around it."""
    bare = unwrap_model(model)
    return getattr(bare, "student_model", bare)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _refill_mosaics(dataset: Any) -> None:
    """Give mosaics images to choose from at an epoch's start that do not depend on the epoch before."""
    if not getattr(dataset, "max_buffer_length", 0) or getattr(dataset, "cache", None) == "ram":
        return
    for i in dataset.buffer:
        dataset.ims[i] = dataset.im_hw0[i] = dataset.im_hw[i] = None
    dataset.buffer[:] = random.sample(range(len(dataset.ims)), dataset.max_buffer_length - 1)


def _tell(record: dict[str, Any], epochs: int) -> None:
    losses = " ".join(f"{k.removesuffix('_loss')} {v:.3f}" for k, v in record["loss"].items())
    shares = " ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in record["scales"].items())
    under = "" if record["penalty"] is None else f"  penalty {record['penalty']:.3f}  scales {shares}"
    log.info(
        "epoch %d/%d  %s%s  mAP50 %.3f  mAP50-95 %.3f  %.0f s, about %.0f min left",
        record["epoch"], epochs, losses, under, record["map50"], record["map50_95"], record["seconds"],
        (epochs - record["epoch"]) * record["seconds"] / 60,
    )  # fmt: skip

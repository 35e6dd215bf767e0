"""What goes wrong in the middle of a training is mended from the last whole epoch on, or told with its epoch."""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch.utils.data import get_worker_info
from ultralytics.data.dataset import YOLODataset

from slimdeploy.configs import FinetuneConfig, SparsifyConfig
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.lineage import partial_of
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.sparsify import sparsify
from slimdeploy.yolo import checkpoint, training
from slimdeploy.yolo.trainers import KeepingTrainer

pytestmark = [
    # torch warns that LambdaLR steps first, which is ultralytics' own order
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ultralytics"),
]
SHORT = {"epochs": 2, "imgsz": 64, "batch": 8, "device": "cpu", "warmup_epochs": 0.0, "close_mosaic": 0}


def tune(weights, data, out, **settings) -> dict:
    """Fine-tune and return the results that run.json keeps."""
    finetune(weights, data, FinetuneConfig(**{**SHORT, **settings}), out)
    return json.loads((out / "run.json").read_text())["results"]


@pytest.fixture
def spoil(monkeypatch):
    """Give a function a say before each training batch is used: it gets the trainer and the batch."""

    def install(act) -> None:
        real = KeepingTrainer.preprocess_batch

        def acting(self, batch):
            if self.model.training:
                act(self, batch)
            return real(self, batch)

        monkeypatch.setattr(KeepingTrainer, "preprocess_batch", acting)

    return install


def raise_out_of_memory(trainer, batch) -> None:
    if trainer.epoch == 1 and len(batch["img"]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")


def test_out_of_memory_halves_the_batch_and_keeps_the_images_of_a_step(tiny_weights, tiny_data, tmp_path, spoil):
    spoil(raise_out_of_memory)
    results = tune(tiny_weights, tiny_data, tmp_path / "tuned")
    assert [one["did"] for one in results["mended"]] == [
        "batch 8 to 4, gradients of 2 batches a step",
        "batch 4 to 2, gradients of 4 batches a step",
    ]
    assert [one["epoch"] for one in results["mended"]] == [2, 2]
    assert [epoch["epoch"] for epoch in results["history"]] == [1, 2]


def test_out_of_memory_at_a_batch_of_one_is_told_and_leaves_nothing_behind(tiny_weights, tiny_data, tmp_path, spoil):
    def never_enough(trainer, batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    spoil(never_enough)
    with pytest.raises(StageFailed, match=r"epoch 1: CUDA out of memory.*smaller --imgsz"):
        tune(tiny_weights, tiny_data, tmp_path / "tuned", batch=2)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_goes_back_an_epoch_at_half_the_rate(tiny_weights, tiny_data, tmp_path, spoil):
    def poison(trainer, batch):
        if trainer.epoch == 1 and trainer.setup.lr_factor == 1.0:
            batch["img"] = batch["img"].float() * float("nan")

    spoil(poison)
    results = tune(tiny_weights, tiny_data, tmp_path / "tuned", lr0=0.001, lrf=1.0)
    assert [(one["epoch"], one["kind"]) for one in results["mended"]] == [(2, "nonfinite")]
    assert [epoch["lr"][0] for epoch in results["history"]] == pytest.approx([0.001, 0.0005])


def test_a_loss_that_stays_no_number_stops_after_two_halvings_and_names_the_epoch(
    tiny_weights, tiny_data, tmp_path, spoil
):
    def poison(trainer, batch):
        if trainer.epoch == 1:
            batch["img"] = batch["img"].float() * float("nan")

    spoil(poison)
    with pytest.raises(StageFailed, match=r"epoch 2: the loss is nan.*halved 2 times"):
        tune(tiny_weights, tiny_data, tmp_path / "tuned")
    assert (partial_of(tmp_path / "tuned") / "work" / "state.pt").exists()  # the first epoch is kept
    assert not (tmp_path / "tuned").exists()


def test_a_loader_process_that_dies_is_done_without(tiny_weights, tiny_data, tmp_path, monkeypatch):
    """On a CPU ultralytics loads without processes, so this asks for one, and kills it while it loads."""
    real_init, real_item = KeepingTrainer.__init__, YOLODataset.__getitem__

    def with_workers(self, *args, **kwargs):
        real_init(self, *args, **kwargs)
        self.args.workers = self.setup.workers

    def dying(self, index):
        if get_worker_info() is not None:
            os._exit(1)
        return real_item(self, index)

    monkeypatch.setattr(KeepingTrainer, "__init__", with_workers)
    monkeypatch.setattr(YOLODataset, "__getitem__", dying)
    results = tune(tiny_weights, tiny_data, tmp_path / "tuned", workers=1)
    assert [(one["kind"], one["did"]) for one in results["mended"]] == [
        ("worker", "images are loaded without worker processes")
    ]
    assert results["epochs"] == 2


def test_a_penalty_that_kills_a_layer_stops_and_names_it(tiny_weights, tiny_data, tmp_path):
    config = SparsifyConfig(**{**SHORT, "lr0": 0.1, "sr": 1000.0})
    with pytest.raises(UsageError, match=r"sr 1000 leaves model\.\d.* 0 live channels of .* in epoch 1.*smaller --sr"):
        sparsify(tiny_weights, tiny_data, config, tmp_path / "sparse")
    assert list(tmp_path.iterdir()) == []


def test_the_last_good_epoch_is_kept_when_a_layer_dies_later(tiny_weights, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("slimdeploy.yolo.trainers.strength_at", lambda settings, epoch, epochs: 1e4 * epoch)
    config = SparsifyConfig(**{**SHORT, "lr0": 0.1, "lrf": 1.0, "sr": 0.1})
    with pytest.raises(UsageError, match=r"in epoch 2.*epoch 1, the last good one, is kept"):
        sparsify(tiny_weights, tiny_data, config, tmp_path / "sparse")
    _, kept = checkpoint.load(partial_of(tmp_path / "sparse") / "sparse.pt")
    assert kept.classes == ("square", "bar")
    assert not (tmp_path / "sparse").exists()


def test_an_error_that_nothing_mends_is_told_with_its_epoch(tiny_weights, tiny_data, tmp_path, spoil):
    def fail(trainer, batch):
        raise RuntimeError("something else")

    spoil(fail)
    with pytest.raises(StageFailed, match="epoch 1: something else"):
        tune(tiny_weights, tiny_data, tmp_path / "tuned")


def test_a_training_that_ends_without_its_last_epoch_is_told_and_not_begun_for_ever(
    tiny_weights, tiny_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(KeepingTrainer, "train", lambda self: None)
    with pytest.raises(StageFailed, match="without its last epoch"):
        tune(tiny_weights, tiny_data, tmp_path / "tuned")


def test_new_weights_keep_the_shape_alone(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    fresh = training.with_new_weights(module, seed=1)
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in module.parameters()]
    assert not torch.equal(fresh.model[0].conv.weight, module.model[0].conv.weight)
    assert torch.equal(fresh.model[-1].dfl.conv.weight, module.model[-1].dfl.conv.weight)
    assert {float(m.weight.detach().min()) for m in fresh.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1.0}


def test_new_weights_depend_on_the_seed_alone(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    first, second = (training.with_new_weights(module, seed=3).model[0].conv.weight for _ in range(2))
    assert torch.equal(first, second)


def test_a_control_from_new_weights_has_no_teacher(tiny_weights, tiny_data, tmp_path):
    with pytest.raises(UsageError, match="--scratch or --teacher"):
        finetune(tiny_weights, tiny_data, FinetuneConfig(scratch=True), tmp_path / "out", teacher=tiny_weights)

"""The training stages keep the shape they are given, apply the penalty, and write whole folders."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from ultralytics.utils.callbacks.base import default_callbacks

from slimdeploy._cores import usable_cores
from slimdeploy.accuracy.evaluate import score
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.configs import DenseConfig, FinetuneConfig, PruneConfig, SparsifyConfig, ValConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import CheckpointError, DataError, OutputExists
from slimdeploy.stages.finetune import finetune
from slimdeploy.stages.prune import prune
from slimdeploy.stages.sparsify import sparsify
from slimdeploy.stages.train import train
from slimdeploy.yolo import checkpoint, training
from slimdeploy.yolo.gammas import scales
from slimdeploy.yolo.penalty import Penalty

pytestmark = [
    # torch warns that LambdaLR steps first, which is ultralytics' own order
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ultralytics"),
]
SHORT = {"epochs": 2, "imgsz": 64, "batch": 8, "device": "cpu", "warmup_epochs": 0.0, "close_mosaic": 0}


@pytest.fixture(scope="module")
def narrow_weights(tiny_weights, tmp_path_factory):
    """A checkpoint whose first layer is narrower than the YAML says, as after pruning."""
    module, _ = checkpoint.load(tiny_weights)
    first, second = module.model[0], module.model[1]
    first.conv = _narrowed(first.conv, out_channels=8)
    first.bn = nn.BatchNorm2d(8, eps=1e-3, momentum=0.03)
    second.conv = _narrowed(second.conv, in_channels=8)
    checkpoint.mark_pruned(module)
    path = tmp_path_factory.mktemp("narrow") / "pruned.pt"
    checkpoint.save(module, path, origin={})
    return path


def _narrowed(conv: nn.Conv2d, **change: int) -> nn.Conv2d:
    sizes = {"in_channels": conv.in_channels, "out_channels": conv.out_channels, **change}
    return nn.Conv2d(**sizes, kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding, bias=False)


def test_a_dense_network_is_trained_from_new_weights(tiny_data, tmp_path):
    written = train(tiny_data, DenseConfig(**SHORT), tmp_path / "train")
    _, known = checkpoint.load(written)
    assert (known.classes, known.pruned) == (("square", "bar"), False)
    record = json.loads((tmp_path / "train" / "run.json").read_text())
    assert [epoch["epoch"] for epoch in record["results"]["history"]] == [1, 2]
    assert sorted(record["outputs"]) == ["dense.pt"]


def test_fine_tuning_keeps_a_pruned_shape_and_changes_its_weights(narrow_weights, tiny_data, tmp_path):
    before, known = checkpoint.load(narrow_weights)
    written = finetune(narrow_weights, tiny_data, FinetuneConfig(**SHORT), tmp_path / "finetune")
    after, kept = checkpoint.load(written)
    shapes = [p.shape for p in before.parameters()]
    assert [p.shape for p in after.parameters()] == shapes
    assert (kept.parameters, kept.pruned) == (known.parameters, True)
    assert not torch.equal(after.model[0].conv.weight, before.model[0].conv.weight)


@pytest.mark.parametrize("family", ["yolo11n", "yolo26n"])
def test_a_pruned_yolo11_or_yolo26_is_tuned_in_its_shape_with_a_teacher(family, tiny_data, tmp_path):
    config = {**SHORT, "epochs": 1}
    dense = train(tiny_data, DenseConfig(architecture=f"{family}.yaml", **config), tmp_path / "train")
    pruned = prune(dense, PruneConfig(channels=0.5, imgsz=64), tmp_path / "prune")
    tuned = finetune(pruned, tiny_data, FinetuneConfig(**config), tmp_path / "finetune", teacher=dense)
    (before, known), (after, kept) = checkpoint.load(pruned), checkpoint.load(tuned)
    assert kept.parameters == known.parameters < 0.5 * checkpoint.load(dense)[1].parameters
    assert [p.shape for p in after.parameters()] == [p.shape for p in before.parameters()]
    assert not torch.equal(after.model[0].conv.weight, before.model[0].conv.weight)
    found = score(read_artifact(tuned, imgsz=(64, 64)), read_dataset(tiny_data), ValConfig(imgsz=64))
    assert found.images == 8


def test_distillation_leaves_the_student_alone_in_the_checkpoint(narrow_weights, tiny_weights, tiny_data, tmp_path):
    config = FinetuneConfig(**{**SHORT, "epochs": 1})
    written = finetune(narrow_weights, tiny_data, config, tmp_path / "finetune", teacher=tiny_weights)
    module, kept = checkpoint.load(written)
    assert not hasattr(module, "teacher_model")
    assert kept.parameters == checkpoint.load(narrow_weights)[1].parameters


def test_the_proximal_penalty_shrinks_scales_while_it_trains(tiny_weights, tiny_data, tmp_path):
    settings = {**SHORT, "epochs": 1, "lrf": 1.0, "lr0": 0.01, "optimizer": "SGD"}
    free = sparsify(tiny_weights, tiny_data, SparsifyConfig(**settings, sr=0.0), tmp_path / "free")
    bound = sparsify(tiny_weights, tiny_data, SparsifyConfig(**settings, sr=10.0), tmp_path / "bound")
    sizes = [float(torch.cat([g.detach().abs() for g in scales(checkpoint.load(p)[0])]).mean()) for p in (free, bound)]
    assert sizes[1] < sizes[0] - 0.02
    history = json.loads((tmp_path / "bound" / "run.json").read_text())["results"]["history"]
    assert sum(history[0]["scale_histogram"]) == sum(g.numel() for g in scales(checkpoint.load(bound)[0]))


def test_classes_other_than_the_networks_are_refused_before_training(tiny_weights, tiny_data, tmp_path):
    text = tiny_data.read_text().replace("bar", "pole").replace("images/", f"{tiny_data.parent}/images/")
    other = tmp_path / "other.yaml"
    other.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="pole"):
        sparsify(tiny_weights, other, SparsifyConfig(**SHORT), tmp_path / "sparsify")
    assert not (tmp_path / "sparsify").exists()


def test_a_teacher_of_other_classes_is_refused(tiny_weights, tiny_data, tmp_path):
    stranger = tmp_path / "teacher.pt"
    checkpoint.save(training.new_network("yolov8n.yaml", ("car",), seed=0), stranger, origin={})
    with pytest.raises(CheckpointError, match="teacher"):
        finetune(tiny_weights, tiny_data, FinetuneConfig(**SHORT), tmp_path / "finetune", teacher=stranger)


def test_an_unknown_architecture_is_refused(tiny_data, tmp_path):
    with pytest.raises(CheckpointError, match="yolov99"):
        train(tiny_data, DenseConfig(**SHORT, architecture="yolov99.yaml"), tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_stays_as_it_is(tiny_weights, tiny_data, tmp_path):
    out = tmp_path / "sparsify"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExists):
        sparsify(tiny_weights, tiny_data, SparsifyConfig(**SHORT), out)
    assert (out / "mine.txt").read_text() == "mine"


def test_loggers_that_the_user_switched_on_see_the_scales(tiny_weights, tiny_data, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setitem(default_callbacks, "on_fit_epoch_end", [lambda trainer: seen.append(dict(trainer.metrics))])
    sparsify(tiny_weights, tiny_data, SparsifyConfig(**{**SHORT, "epochs": 1, "sr": 0.1}), tmp_path / "sparse")
    assert seen[0]["scales/penalty"] > 0
    assert {"scales/below_0.1", "scales/below_0.01", "scales/below_0.001"} <= seen[0].keys()


def test_the_reach_that_is_told_is_what_the_penalty_took(tiny_weights, tiny_data, tmp_path, monkeypatch):
    taken = []
    real = Penalty.after_step

    def noting(self, optimizer):
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        taken.append(self.sr * rates[id(self.groups[0][0].parameter)])
        real(self, optimizer)

    monkeypatch.setattr(Penalty, "after_step", noting)
    config = SparsifyConfig(**{**SHORT, "epochs": 3, "batch": 4, "accumulate": 2, "sr": 0.2, "schedule": "decay"})
    sparsify(tiny_weights, tiny_data, config, tmp_path / "sparse")
    results = json.loads((tmp_path / "sparse" / "run.json").read_text())["results"]
    assert results["reach"] == pytest.approx(sum(taken), rel=1e-3)
    assert len(taken) == 3 * 2  # 16 images, 8 a step


def test_training_uses_every_core_that_this_process_may_use(tiny_weights, tiny_data, tmp_path):
    finetune(tiny_weights, tiny_data, FinetuneConfig(**{**SHORT, "epochs": 1}), tmp_path / "tuned")
    assert torch.get_num_threads() == usable_cores()


def test_a_training_keeps_its_weights_in_float32(tiny_weights, tiny_data, tmp_path):
    written = finetune(tiny_weights, tiny_data, FinetuneConfig(**{**SHORT, "epochs": 1}), tmp_path / "tuned")
    held = torch.load(written, weights_only=False)["model"]
    assert {p.dtype for p in held.parameters()} == {torch.float32}

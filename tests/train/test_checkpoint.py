"""Opening checkpoints safely, and writing ordinary ones."""

from __future__ import annotations

import copy
import os
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms
from ultralytics import YOLO
from ultralytics.nn.modules import C2f, Conv, Detect, block
from ultralytics.nn.tasks import ClassificationModel, SegmentationModel
from ultralytics.utils import IterableSimpleNamespace
from ultralytics.utils.loss import v8DetectionLoss

from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import checkpoint


class _RunsOnOpening:
    """Unpickled, it makes a folder: code that a harmful file could run."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.fixture
def module(tiny_weights):
    return checkpoint.load(tiny_weights)[0]


def write(path, contents):
    torch.save(contents, path)
    return path


def test_what_is_known_of_a_file_is_told(tiny_weights):
    module, known = checkpoint.load(tiny_weights)
    assert (known.task, known.classes, known.stride) == ("detect", ("square", "bar"), 32)
    assert known.parameters == sum(p.numel() for p in module.parameters())
    assert known.size_bytes == tiny_weights.stat().st_size
    assert not known.pruned


def test_a_network_comes_back_in_float32_ready_to_train(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in module.parameters())
    assert not module.training


def test_a_saved_network_is_bit_for_bit_the_same(module, tmp_path):
    checkpoint.save(module, tmp_path / "again.pt", origin={})
    again, _ = checkpoint.load(tmp_path / "again.pt")
    before, after = module.state_dict(), again.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_saving_does_not_change_the_network(module, tmp_path):
    checkpoint.save(module, tmp_path / "again.pt", origin={})
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in module.parameters())


def test_weights_that_float16_cannot_hold_are_written_as_float32(module, tmp_path):
    checkpoint.save(module, tmp_path / "exact.pt", origin={})
    held = torch.load(tmp_path / "exact.pt", weights_only=False)["model"]
    assert {p.dtype for p in held.parameters()} == {torch.float32}


def test_weights_that_float16_holds_are_written_as_float16(module, tmp_path):
    checkpoint.save(module.half().float(), tmp_path / "half.pt", origin={})
    held = torch.load(tmp_path / "half.pt", weights_only=False)["model"]
    assert {p.dtype for p in held.parameters()} == {torch.float16}


def test_weights_beyond_the_range_of_float16_are_written_as_float32(module, tmp_path):
    module.half().float()
    module.model[0].bn.running_var[0] = 1e6
    checkpoint.save(module, tmp_path / "large.pt", origin={})
    assert checkpoint.load(tmp_path / "large.pt")[0].model[0].bn.running_var[0] == 1e6


def test_ultralytics_opens_what_is_saved(tiny_weights):
    assert YOLO(tiny_weights).names == {0: "square", 1: "bar"}


def test_the_origin_is_remembered(module, tmp_path):
    checkpoint.save(module, tmp_path / "again.pt", origin={"stage": "prune"})
    assert torch.load(tmp_path / "again.pt", weights_only=False)["slimdeploy"] == {"stage": "prune"}


def test_the_mark_of_a_pruned_network_is_seen_after_loading(module, tmp_path):
    checkpoint.mark_pruned(module)
    checkpoint.save(module, tmp_path / "pruned.pt", origin={})
    assert checkpoint.load(tmp_path / "pruned.pt")[1].pruned


@pytest.mark.parametrize("zipped", [True, False], ids=["as torch writes it", "as old torch wrote it"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, zipped):
    path = tmp_path / "harmful.pt"
    contents = {"model": _RunsOnOpening(tmp_path / "it-ran")}
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"names \w+\.mkdir, which is no tensor.*--trust"):
        checkpoint.load(path)
    assert not (tmp_path / "it-ran").exists()


def test_trust_opens_whatever_a_file_names(tmp_path):
    write(tmp_path / "odd.pt", {"model": _RunsOnOpening(tmp_path / "it-ran")})
    with pytest.raises(CheckpointError, match="holds no YOLO network"):
        checkpoint.load(tmp_path / "odd.pt", trust=True)
    assert (tmp_path / "it-ran").exists()


def test_an_unknown_object_is_named(module, tmp_path, monkeypatch):
    path = with_foreign_object(module, tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match=r"names absent_package\.Thing, which is no tensor"):
        checkpoint.load(path)


def test_with_trust_a_module_that_is_missing_is_named_and_not_installed(module, tmp_path, monkeypatch, capfd):
    path = with_foreign_object(module, tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match="needs the module absent_package, which is not installed"):
        checkpoint.load(path, trust=True)
    assert capfd.readouterr().out == ""


def with_foreign_object(module, tmp_path, monkeypatch):
    """Write a checkpoint that names a class of a package which is gone when it is opened."""
    package = types.ModuleType("absent_package")
    package.Thing = type("Thing", (), {"__module__": "absent_package"})
    with monkeypatch.context() as while_saving:
        while_saving.setitem(sys.modules, "absent_package", package)
        return write(tmp_path / "foreign.pt", {"model": module, "extra": package.Thing()})


@pytest.mark.parametrize("name", ["yolov5n.pt", "'best'.pt", "o'brien/best.pt"])
@pytest.mark.parametrize("trust", [False, True])
def test_the_file_that_is_named_is_opened_whatever_ultralytics_would_open_in_its_place(
    module, tmp_path, monkeypatch, name, trust
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o'brien").mkdir()
    checkpoint.save(module, Path(name), origin={})
    assert checkpoint.load(Path(name), trust=trust)[1].classes == ("square", "bar")


def test_a_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "weights.pt").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "weights.pt")


def test_another_suffix_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(CheckpointError, match=r"is no \.pt file"):
        checkpoint.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999], ids=lambda share: f"{share:.2%} left")
@pytest.mark.parametrize("trust", [False, True])
def test_a_truncated_file_is_told_apart(tiny_weights, tmp_path, share, trust):
    whole = tiny_weights.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
        checkpoint.load(tmp_path / "cut.pt", trust=trust)


def test_a_text_file_is_no_checkpoint(tmp_path):
    (tmp_path / "notes.pt").write_text("these are no weights\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
        checkpoint.load(tmp_path / "notes.pt")


def test_an_archive_of_something_else_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("notes.txt", "no weights")
    with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
        checkpoint.load(tmp_path / "archive.pt")


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(lambda m: {"weight": torch.zeros(3)}, id="tensors"),
        pytest.param(lambda m: {"model": torch.zeros(3)}, id="a tensor for a network"),
        pytest.param(lambda m: m.state_dict(), id="a state_dict"),
        pytest.param(lambda m: {"model": m.state_dict()}, id="a state_dict for a network"),
        pytest.param(lambda m: {"model": nn.Linear(2, 2)}, id="another network"),
        pytest.param(lambda m: {"model": None, "ema": None}, id="nothing"),
        pytest.param(lambda m: m, id="a bare network"),
    ],
)
def test_a_file_without_a_yolo_network_is_refused(module, tmp_path, contents, capfd):
    write(tmp_path / "other.pt", contents(module))
    with pytest.raises(CheckpointError, match="holds no YOLO network"):
        checkpoint.load(tmp_path / "other.pt")
    assert capfd.readouterr().out == ""


def test_a_file_of_torch_before_1_6_is_opened_as_data(module, tmp_path):
    torch.save({"model": module}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    again, _ = checkpoint.load(tmp_path / "old.pt")
    before, after = module.state_dict(), again.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_binary_protocol_of_pickle_is_read(module, tmp_path, protocol):
    torch.save({"model": module}, tmp_path / "other.pt", pickle_protocol=protocol)
    assert checkpoint.load(tmp_path / "other.pt")[1].classes == ("square", "bar")


def test_the_averaged_network_of_a_training_comes_before_the_live_one(module, tmp_path):
    live = copy.deepcopy(module)
    live.names = {0: "live", 1: "other"}
    write(tmp_path / "last.pt", {"ema": copy.deepcopy(module).half(), "model": live.half()})
    assert checkpoint.load(tmp_path / "last.pt")[1].classes == ("square", "bar")


def test_what_a_training_keeps_beside_its_network_is_read_over(module, tmp_path):
    optimizer = torch.optim.AdamW(module.parameters())
    sum(parameter.sum() for parameter in module.parameters()).backward()
    optimizer.step()
    module.criterion = v8DetectionLoss(_with_gains(module))
    module.args = IterableSimpleNamespace(imgsz=64, task="detect", data=Path("data.yaml"))
    contents = {
        "ema": module,
        "optimizer": optimizer.state_dict(),
        "best_fitness": np.float64(0.5),
        "train_args": {"project": Path("runs"), "classes": None},
        "train_results": {"epoch": [1, 2], "time": [0.5, 1.5]},
    }
    again, _ = checkpoint.load(write(tmp_path / "last.pt", contents))
    assert getattr(again, "criterion", None) is None
    assert again.args.imgsz == 64
    assert torch.equal(again.model[0].conv.weight, module.model[0].conv.weight)


def _with_gains(module):
    with_gains = copy.deepcopy(module)
    with_gains.args = IterableSimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    return with_gains


def test_a_fused_network_is_read_with_the_way_that_it_runs(module, tmp_path):
    fused = copy.deepcopy(module).fuse(verbose=False)
    again, _ = checkpoint.load(write(tmp_path / "fused.pt", {"model": fused}))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image)[0], fused.eval()(image)[0])


def test_the_forward_of_a_head_that_older_networks_keep_is_read(tmp_path):
    segmenter = SegmentationModel("yolov8n-seg.yaml", nc=2, verbose=False)
    segmenter.names, segmenter.task = {0: "square", 1: "bar"}, "segment"
    segmenter.model[-1].detect = Detect.forward
    again, _ = checkpoint.load(write(tmp_path / "older.pt", {"model": segmenter}))
    assert again.model[-1].detect is Detect.forward


def test_the_transforms_of_a_classifier_are_kept(tmp_path):
    classifier = ClassificationModel("yolov8n-cls.yaml", nc=2, verbose=False)
    classifier.names, classifier.task = {0: "square", 1: "bar"}, "classify"
    classifier.transforms = transforms.Compose(
        [transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor(), transforms.Normalize([0.0], [1.0])]
    )
    again, known = checkpoint.load(write(tmp_path / "classifier.pt", {"model": classifier}))
    assert str(again.transforms) == str(classifier.transforms)
    assert (known.task, known.stride) == ("classify", 1)


def test_layers_are_known_by_their_names_before_ultralytics_8_0_91(module, tmp_path, monkeypatch):
    for one in (Conv, Detect):
        monkeypatch.setattr(one, "__module__", "ultralytics.nn.modules")
    write(tmp_path / "earlier.pt", {"model": module})
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "earlier.pt")[1].classes == ("square", "bar")


@pytest.mark.parametrize("trust", [False, True])
def test_a_class_that_a_fork_added_is_the_reason_and_not_a_damaged_file(module, tmp_path, monkeypatch, trust):
    added = type("C2f_EMA", (C2f,), {"__module__": "ultralytics.nn.modules.block"})
    monkeypatch.setattr(block, "C2f_EMA", added, raising=False)
    next(layer for layer in module.modules() if type(layer) is C2f).__class__ = added
    write(tmp_path / "fork.pt", {"model": module})
    monkeypatch.undo()
    wanted = (
        r"needs ultralytics\.nn\.modules\.block\.C2f_EMA, which the installed ultralytics .* does not have; .*whole"
    )
    with pytest.raises(CheckpointError, match=wanted):
        checkpoint.load(tmp_path / "fork.pt", trust=trust)


class _Fails:
    def __setstate__(self, state):
        raise TypeError("another version")


def test_with_trust_an_object_that_fails_to_open_is_told_as_it_is(module, tmp_path):
    failing = _Fails()
    failing.value = 1
    write(tmp_path / "odd.pt", {"model": module, "extra": failing})
    with pytest.raises(CheckpointError, match="is whole, but opening it raised TypeError: another version"):
        checkpoint.load(tmp_path / "odd.pt", trust=True)


def test_a_file_that_may_not_be_read_is_told_so(tiny_weights, tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        checkpoint.load(tiny_weights)

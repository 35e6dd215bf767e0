"""Opening checkpoints safely, and writing ordinary ones."""

from __future__ import annotations

import os
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from ultralytics import YOLO

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


@pytest.mark.parametrize(("name", "taken"), [("yolov5n.pt", "yolov5nu.pt"), ("'best'.pt", "best.pt")])
def test_a_name_in_whose_place_ultralytics_would_open_or_download_another_is_refused(
    module, tmp_path, monkeypatch, name, taken
):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    checkpoint.save(module, path, origin={})
    with pytest.raises(CheckpointError, match=f"would open {taken} in place of {name}; .*rename it"):
        checkpoint.load(path)


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

"""A training reads the data set that slimdeploy resolved, runs nothing, asks nobody, and changes nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
import torch
from data_sets import write_image, write_shapes

from slimdeploy.configs import FinetuneConfig
from slimdeploy.errors import DataError, StageFailed
from slimdeploy.stages.finetune import finetune
from slimdeploy.yolo import checkpoint, compute, failures, training
from slimdeploy.yolo.trainers import KeepingTrainer
from slimdeploy.yolo.training_data import ListedDataset

pytestmark = [
    # torch warns that LambdaLR steps first, which is ultralytics' own order
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ultralytics"),
]
SHORT = FinetuneConfig(epochs=1, imgsz=64, batch=8, device="cpu", warmup_epochs=0.0, close_mosaic=0)
SCRIPT = "path: .\ntrain: images/train\nval: images/val\nnames: [square, bar]\ndownload: |\n  open('RAN', 'w')\n"


@pytest.fixture(scope="module")
def trained(tiny_weights, tmp_path_factory):
    """A training with a script in its YAML, odd images, and another data set in the working directory."""
    folder, elsewhere = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("elsewhere")
    for place in (folder, elsewhere):
        write_shapes(place, "train", 8, seed=1)
        write_shapes(place, "val", 4, seed=2)
    for labels in (elsewhere / "labels").rglob("*.txt"):
        labels.write_text("")
    (folder / "data.yaml").write_text(SCRIPT)
    write_image(folder / "images" / "train" / "thin.png", size=(9, 60))
    jpeg = write_image(folder / "images" / "train" / "trailer.jpg", size=(64, 64))
    jpeg.write_bytes(jpeg.read_bytes() + b"SEFT\0\0trailer")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hosts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
        patch.setattr(socket, "getaddrinfo", lambda host, *_, **__: hosts.append(host))
        finetune(tiny_weights, folder / "data.yaml", SHORT, elsewhere / "tuned")
    record = json.loads((elsewhere / "tuned" / "run.json").read_text())
    return {"folder": folder, "elsewhere": elsewhere, "files": files, "hosts": hosts, "record": record}


def test_no_script_of_a_yaml_is_run(trained):
    assert not [*trained["folder"].rglob("RAN"), *trained["elsewhere"].rglob("RAN")]


def test_the_images_beside_the_yaml_are_trained_on_and_not_those_of_the_working_directory(trained):
    assert trained["record"]["results"]["history"][0]["loss"]["box_loss"] > 0


def test_no_file_of_the_data_set_is_changed_and_none_is_added(trained):
    assert {path: path.read_bytes() for path in trained["folder"].rglob("*") if path.is_file()} == trained["files"]


def test_no_host_is_asked_for(trained):
    assert trained["hosts"] == []


def test_what_is_left_out_stands_in_run_json(trained):
    assert trained["record"]["inputs"]["data"]["left_out"] == {
        "a side below 10 px": {"count": 1, "first": ["train/thin.png"]}
    }


@pytest.mark.parametrize("workers", [0, 1], ids=["in this process", "in a loader process"])
def test_an_image_that_does_not_decode_stops_a_training_and_is_named(
    tiny_weights, tiny_data, tmp_path, monkeypatch, workers
):
    real = KeepingTrainer.__init__

    def with_workers(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.args.workers = workers

    def unreadable(self, i, *_):
        raise failures.UnreadableImage(self.im_files[i])

    monkeypatch.setattr(KeepingTrainer, "__init__", with_workers)
    monkeypatch.setattr(ListedDataset, "load_image", unreadable)
    with pytest.raises(DataError, match=r"the image .*\d\.png does not decode; wanted: a whole image file"):
        finetune(tiny_weights, tiny_data, SHORT, tmp_path / "tuned")


def test_what_stops_a_training_before_its_first_epoch_is_told_as_that_and_without_colours(
    tiny_weights, tiny_data, tmp_path, monkeypatch
):
    def fail(self, *_):
        raise RuntimeError("\x1b[31mno\x1b[0m way\nand more")

    monkeypatch.setattr(KeepingTrainer, "get_dataset", fail)
    with pytest.raises(StageFailed) as caught:
        finetune(tiny_weights, tiny_data, SHORT, tmp_path / "tuned")
    assert str(caught.value) == "training did not start: no way"


VERBS = """
import json, sys
from typer.testing import CliRunner
from slimdeploy.cli import app
gone, weights = sys.argv[1:]
for verb in ("val", "train", "finetune", "sparsify", "prune", "export", "bench"):
    arguments = [] if verb == "train" else [weights]
    arguments += ["--macs", "0.3"] if verb == "prune" else []
    arguments += [] if verb == "val" else ["--out", gone + ".out"]
    said = str(CliRunner().invoke(app, [verb, *arguments, "--data", gone]).exception)
    print(json.dumps([verb, "no data set at" in said, "torch" in sys.modules]))
"""


def test_a_data_set_that_is_missing_is_told_before_torch_is_imported(tmp_path, tiny_weights):
    argv = [sys.executable, "-c", VERBS, str(tmp_path / "gone.yaml"), str(tiny_weights)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one[1:] for one in told] == [[True, False]] * 7, told


def test_whether_half_precision_works_is_tried_on_the_network_itself_and_asks_no_host(tiny_weights):
    from ultralytics.engine import trainer

    module, _ = checkpoint.load(tiny_weights)
    assert trainer.check_amp is compute.amp_works
    assert compute.gives_numbers(module, torch.bfloat16)
    module.model[0].conv.weight.data[0] = float("inf")
    assert not compute.gives_numbers(module, torch.bfloat16)


def test_the_settings_of_a_training_name_no_file_of_the_user(tmp_path):
    training.progress.write_setup(tmp_path, training.first_setup(SHORT, None))
    assert training._overrides(SHORT, tmp_path, None)["data"] == str(tmp_path / "data.json")

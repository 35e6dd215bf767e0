"""What ultralytics' launch for several GPUs hands on, and that training needs no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

from slimdeploy.configs import PruneConfig, SparsifyConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.stages.prune import prune
from slimdeploy.yolo import checkpoint, progress, training
from slimdeploy.yolo.trainers import KeepingTrainer
from slimdeploy.yolo.training_data import write_lists

SETTINGS = SparsifyConfig(epochs=1, imgsz=64, batch=8, device="cpu", sr=0.25)
# In place of the launch's last line, `trainer.train()`, which needs two GPUs.
TELL = """
    import json
    from slimdeploy.yolo.checkpoint import count_parameters, is_pruned
    print(json.dumps({
        "trainer": type(trainer).__module__ + "." + type(trainer).__name__,
        "parameters": count_parameters(trainer.model),
        "pruned": is_pruned(trainer.model),
        "penalty": trainer.setup.penalty,
        "batch": trainer.args.batch,
    }))
"""


@pytest.fixture
def launch_file(tiny_weights, tiny_data, tmp_path):
    """The script that ultralytics writes for its worker processes, for a pruned network under the penalty."""
    pruned = prune(tiny_weights, PruneConfig(channels=0.5, imgsz=64), tmp_path / "pruned")
    work = tmp_path / "work"
    work.mkdir()
    progress.write_setup(work, training.first_setup(SETTINGS, None))
    write_lists(work, read_dataset(tiny_data))
    trainer = KeepingTrainer(overrides=training._overrides(SETTINGS, work, None))
    trainer.model = checkpoint.load(pruned)[0]
    path = Path(generate_ddp_file(trainer))
    yield path, checkpoint.load(pruned)[1].parameters
    ddp_cleanup(trainer, str(path))
    path.unlink(missing_ok=True)


def test_a_process_of_the_launch_gets_our_trainer_the_pruned_network_and_the_penalty(launch_file):
    path, parameters = launch_file
    text = path.read_text(encoding="utf-8")
    assert text.count("    trainer.train()\n") == 1
    path.write_text(text.replace("    trainer.train()\n", TELL), encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "trainer": "slimdeploy.yolo.trainers.KeepingTrainer",
        "parameters": parameters,
        "pruned": True,
        "penalty": {"form": "proximal", "scope": "coupled", "sr": 0.25, "schedule": "constant"},
        "batch": 8,
    }


def _can_cut_the_network() -> bool:
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _can_cut_the_network(), reason="needs unshare and the right to use it, to cut the network off")
def test_a_local_checkpoint_and_data_set_train_to_the_end_without_a_network(tiny_weights, tiny_data, tmp_path):
    main = "from slimdeploy.cli import main; main()"
    options = ["--epochs", "1", "--imgsz", "64", "--batch", "8", "--device", "cpu", "--out", str(tmp_path / "tuned")]
    argv = [sys.executable, "-c", main, "finetune", str(tiny_weights), "--data", str(tiny_data), *options]
    teacher = ["--teacher", str(tiny_weights)]
    done = subprocess.run(["unshare", "--net", *argv, *teacher], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tuned" / "tuned.pt").exists()

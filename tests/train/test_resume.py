"""A training that is killed at any moment goes on at its last whole epoch, and ends where an unbroken one ends."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from slimdeploy._alone import LOCK
from slimdeploy._leftovers import beside
from slimdeploy.configs import FinetuneConfig
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.lineage import WORK, partial_of
from slimdeploy.stages import _training
from slimdeploy.stages.finetune import finetune, resume_finetune
from slimdeploy.stages.sparsify import resume_sparsify
from slimdeploy.yolo import checkpoint
from slimdeploy.yolo.trainers import KeepingTrainer

pytestmark = [
    # torch warns that LambdaLR steps first, which is ultralytics' own order
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ultralytics"),
]
SHORT = {"epochs": 3, "imgsz": 64, "batch": 8, "device": "cpu", "warmup_epochs": 0.0, "close_mosaic": 1}
SPARSIFY = ["--epochs", "5", "--imgsz", "64", "--batch", "8", "--accumulate", "2", "--sr", "3", "--device", "cpu"]
KILLS = 3


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from slimdeploy.cli import main; main()", *arguments]


def epochs_whole(out: Path) -> int:
    state = partial_of(out) / WORK / "state.pt"
    return torch.load(state, weights_only=True)["epoch"] + 1 if state.exists() else 0


def kill_at_a_random_moment(argv: list[str], out: Path) -> None:
    """Start a training, wait for one more whole epoch and then a random moment, and kill it."""
    before = epochs_whole(out)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while epochs_whole(out) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.8))  # of an epoch that takes about a second
        process.send_signal(signal.SIGKILL)
        process.wait()


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path)[0].state_dict()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
def test_three_kills_end_where_an_unbroken_run_ends(tiny_weights, tiny_data, tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    begin = [str(tiny_weights), "--data", str(tiny_data), *SPARSIFY]
    first = command("sparsify", *begin, "--out", str(broken))
    again = command("sparsify", "--resume", str(partial_of(broken)))
    for number in range(KILLS):
        kill_at_a_random_moment(again if number else first, broken)
    if not broken.exists():
        subprocess.run(again, check=True, capture_output=True)
    subprocess.run(command("sparsify", *begin, "--out", str(whole)), check=True, capture_output=True)
    ends = [json.loads((out / "run.json").read_text())["results"] for out in (broken, whole)]
    assert [len(end["history"]) for end in ends] == [5, 5]
    expected, found = weights_of(whole / "sparse.pt"), weights_of(broken / "sparse.pt")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert sorted(p.name for p in broken.iterdir()) == ["run.json", "sparse.pt"]


@pytest.fixture
def stopped(tiny_weights, tiny_data, tmp_path, monkeypatch) -> Path:
    """The folder that a fine-tuning was to make, stopped by Ctrl-C in its second epoch."""
    out = tmp_path / "tuned"
    with monkeypatch.context() as patch:
        real = KeepingTrainer._begin_epoch

        def interrupted(self):
            if self.epoch == 1:
                raise KeyboardInterrupt
            real(self)

        patch.setattr(KeepingTrainer, "_begin_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(tiny_weights, tiny_data, FinetuneConfig(**SHORT), out)
    return out


def test_an_interrupted_training_goes_on_by_the_name_that_it_was_to_get(stopped):
    written = resume_finetune(stopped)
    results = json.loads((stopped / "run.json").read_text())["results"]
    assert (written, results["epochs"]) == (stopped / "tuned.pt", 3)
    assert not partial_of(stopped).exists()


def test_the_same_call_again_goes_on(stopped, tiny_weights, tiny_data):
    finetune(tiny_weights, tiny_data, FinetuneConfig(**SHORT), stopped)
    assert json.loads((stopped / "run.json").read_text())["results"]["epochs"] == 3


def test_other_settings_leave_the_unfinished_training_alone(stopped, tiny_weights, tiny_data):
    with pytest.raises(OutputExists, match=r"other settings.*--resume"):
        finetune(tiny_weights, tiny_data, FinetuneConfig(**{**SHORT, "epochs": 5}), stopped)
    assert epochs_whole(stopped) == 1


def test_a_second_process_in_the_same_folder_is_refused_and_the_first_one_ends_well(
    stopped, tiny_weights, tiny_data, monkeypatch
):
    monkeypatch.setattr(_training, "LOCK_TIMEOUT_S", 0.0)
    lock = beside(stopped, LOCK)
    first = command("finetune", "--resume", str(partial_of(stopped)))
    with subprocess.Popen(first, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not lock.exists() and process.poll() is None:
            time.sleep(0.02)
        config = FinetuneConfig(**SHORT)
        for again in (lambda: resume_finetune(stopped), lambda: finetune(tiny_weights, tiny_data, config, stopped)):
            with pytest.raises(
                UsageError, match=r"another process trains in .*tuned\.partial now; wanted: a single one"
            ):
                again()
        assert process.wait() == 0, process.stderr.read()
    assert json.loads((stopped / "run.json").read_text())["results"]["epochs"] == 3
    assert sorted(path.name for path in stopped.iterdir()) == ["run.json", "tuned.pt"]


def test_a_process_that_is_killed_leaves_no_lock(stopped):
    lock = beside(stopped, LOCK)
    hold = (
        "from pathlib import Path\nfrom slimdeploy._alone import alone_at\n"
        f"with alone_at(Path({str(lock)!r}), wait_s=0.0, busy=RuntimeError):\n    print(1, flush=True)\n    input()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.kill()
    assert lock.exists()
    assert resume_finetune(stopped).exists()
    assert not lock.exists()


def test_another_stage_is_told_which_one_it_is(stopped):
    with pytest.raises(UsageError, match=r"unfinished finetune.*slimdeploy finetune --resume"):
        resume_sparsify(stopped)


def test_a_training_of_another_ultralytics_is_refused(stopped):
    path = partial_of(stopped) / WORK / "request.json"
    request = json.loads(path.read_text())
    request["versions"]["ultralytics"] = "8.4.1"
    path.write_text(json.dumps(request))
    with pytest.raises(UsageError, match=r"begun with ultralytics 8\.4\.1"):
        resume_finetune(stopped)
    assert epochs_whole(stopped) == 1


def test_a_newer_request_is_refused(stopped):
    path = partial_of(stopped) / WORK / "request.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(UsageError, match="schema 99"):
        resume_finetune(stopped)


def test_weights_that_changed_meanwhile_are_refused(stopped, tiny_weights, tmp_path):
    path = partial_of(stopped) / WORK / "request.json"
    request = json.loads(path.read_text())
    other = tmp_path / "other.pt"
    module, _ = checkpoint.load(tiny_weights)
    checkpoint.save(module, other, origin={"other": True})
    request["paths"]["weights"] = str(other)
    path.write_text(json.dumps(request))
    with pytest.raises(OutputExists, match="other settings, data or weights"):
        resume_finetune(stopped)


def test_a_folder_without_a_training_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no unfinished training"):
        resume_finetune(tmp_path / "nothing")


def test_a_folder_that_was_moved_goes_on_where_it_is(stopped, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = partial_of(stopped).rename(tmp_path / "elsewhere" / "tuned.partial")
    assert resume_finetune(moved) == tmp_path / "elsewhere" / "tuned" / "tuned.pt"

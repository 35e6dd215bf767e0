"""A training that was killed at any point of its beginning or end starts again, or goes on; nothing stays behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slimdeploy._alone import LOCK
from slimdeploy._leftovers import beside, temporary_name
from slimdeploy.configs import DenseConfig, FinetuneConfig, SparsifyConfig
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.lineage import REQUEST, WORK, Input, partial_of
from slimdeploy.stages import _training
from slimdeploy.stages._training import Request, training_run
from slimdeploy.stages.finetune import finetune, resume_finetune
from slimdeploy.stages.sparsify import sparsify
from slimdeploy.stages.train import train as train_dense

INPUTS = {"weights": Input("pruned.pt", "a" * 64), "data": Input("data.yaml", "b" * 64)}
QUICK = ["--epochs", "1", "--imgsz", "64", "--batch", "8", "--device", "cpu"]
# Runs the command line, and is killed when the training writes down what it was asked for.
KILLED = """
import os, signal, sys
from slimdeploy.stages import _training
_training.write_json = lambda *_args: os.kill(os.getpid(), signal.SIGKILL)
from slimdeploy.cli import main
main()
"""


def asked(out: Path, **settings: int) -> Request:
    paths = {"weights": Path("pruned.pt"), "data": Path("data.yaml")}
    return Request(stage="finetune", config=FinetuneConfig(**settings), inputs=INPUTS, paths=paths, out=out)


def train(out: Path, **settings: int) -> None:
    with training_run(asked(out, **settings)) as run:
        (run.folder / "tuned.pt").touch()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead(name: str) -> str:
    """Return the temporary name of a process that is dead."""
    machine, pid, _, random = temporary_name(name)[len(name) + 2 :].split(".")[0].split("-")
    return f".{name}.{machine}-{pid}-1-{random}.partial"


def stop(out: Path, after: str) -> None:
    """Leave what a process leaves that is killed at some point before its first epoch is complete."""
    work = partial_of(out) / WORK
    if after == "lock":
        beside(out, LOCK).touch()
    elif after == "folder":
        work.mkdir(parents=True)
    elif after == "half a request":
        work.mkdir(parents=True)
        (work / dead(REQUEST)).write_text("{", encoding="utf-8")
    elif after == "half a request of an older slimdeploy":
        work.mkdir(parents=True)
        for name in ("lock", f".{REQUEST}.partial"):
            (work / name).touch()
    elif after == "damaged request":
        work.mkdir(parents=True)
        (work / REQUEST).write_text("{", encoding="utf-8")
    else:
        work.mkdir(parents=True)
        request = _training._as_json(asked(out, epochs=3 if after == "request" else 7))
        (work / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        (work / "setup.json").touch()


POINTS = [
    "lock", "folder", "half a request", "half a request of an older slimdeploy", "damaged request", "request",
    "request with other settings",
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_a_training_that_was_killed_before_its_first_epoch_starts_again(tmp_path, point):
    stop(tmp_path / "out", point)
    train(tmp_path / "out", epochs=3)
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["run.json", "tuned.pt"]


def test_without_a_request_there_is_nothing_to_resume_and_the_way_out_is_named(tmp_path):
    stop(tmp_path / "out", "folder")
    with pytest.raises(UsageError, match=r"no unfinished training in .*begin it again with --out"):
        resume_finetune(partial_of(tmp_path / "out"))


def test_whole_epochs_with_other_settings_are_left_alone(tmp_path):
    stop(tmp_path / "out", "request with other settings")
    (partial_of(tmp_path / "out") / WORK / "state.pt").touch()
    with pytest.raises(OutputExists, match="other settings"):
        train(tmp_path / "out", epochs=3)
    assert (partial_of(tmp_path / "out") / WORK / "state.pt").exists()


def test_a_folder_of_somebody_else_by_that_name_is_left_alone(tmp_path):
    partial_of(tmp_path / "out").mkdir()
    (partial_of(tmp_path / "out") / "mine").touch()
    with pytest.raises(OutputExists, match="is no unfinished training"):
        train(tmp_path / "out")
    assert names(tmp_path) == ["out.partial"]
    assert names(partial_of(tmp_path / "out")) == ["mine"]


def test_what_a_process_left_that_was_killed_after_the_rename_goes_with_the_next_call(tmp_path):
    out = tmp_path / "out"
    train(out, epochs=3)
    stop(tmp_path / "other", "request")
    (partial_of(tmp_path / "other") / WORK).rename(out / WORK)
    with pytest.raises(OutputExists):
        train(out, epochs=3)
    assert names(out) == ["run.json", "tuned.pt"]


def test_a_folder_named_work_in_a_complete_output_is_left_alone(tmp_path):
    out = tmp_path / "out"
    train(out, epochs=3)
    (out / WORK).mkdir()
    (out / WORK / "mine").touch()
    with pytest.raises(OutputExists):
        train(out, epochs=3)
    assert names(out / WORK) == ["mine"]


@pytest.mark.parametrize("epochs", [3, 5], ids=["the same settings", "other settings"])
def test_while_another_process_trains_there_that_is_what_is_said(tmp_path, monkeypatch, epochs):
    monkeypatch.setattr(_training, "LOCK_TIMEOUT_S", 0.0)
    with training_run(asked(tmp_path / "out", epochs=3)) as run:
        (run.folder / "tuned.pt").touch()
        with pytest.raises(UsageError, match=r"another process trains in .*out\.partial now"):
            train(tmp_path / "out", epochs=epochs)
        assert (run.folder / WORK / REQUEST).exists()
    assert names(tmp_path) == ["out"]


def test_whoever_waits_while_another_process_finishes_is_told_so(tmp_path):
    failures: list[BaseException] = []

    def second() -> None:
        try:
            train(tmp_path / "out", epochs=3)
        except UsageError as error:
            failures.append(error)

    waiting = threading.Thread(target=second)
    with training_run(asked(tmp_path / "out", epochs=3)) as run:
        (run.folder / "tuned.pt").touch()
        waiting.start()
    waiting.join()
    assert "exists" in str(failures[0])
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("verb", ["train", "sparsify", "finetune"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, verb):
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    weights, data = tmp_path / "no.pt", tmp_path / "no.yaml"
    calls = {
        "train": lambda: train_dense(data, DenseConfig(), tmp_path / "link"),
        "sparsify": lambda: sparsify(weights, data, SparsifyConfig(), tmp_path / "link"),
        "finetune": lambda: finetune(weights, data, FinetuneConfig(), tmp_path / "link"),
    }
    with pytest.raises(OutputExists, match=r"is a link to .*missing, which is not there"):
        calls[verb]()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends processes in another way")
def test_the_command_that_was_killed_before_its_first_record_succeeds_again(tiny_weights, tiny_data, tmp_path):
    argv = ["finetune", str(tiny_weights), "--data", str(tiny_data), *QUICK, "--out", str(tmp_path / "out")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *argv], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = [sys.executable, "-c", "from slimdeploy.cli import main; main()", *argv]
    ended = subprocess.run(again, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert names(tmp_path) == ["out"]

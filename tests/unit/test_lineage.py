"""An output folder is whole or not there; run.json tells exactly where it came from."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slimdeploy import __version__, lineage
from slimdeploy.configs import BenchConfig, ValConfig
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.lineage import (
    Input,
    file_input,
    fingerprint,
    read_json,
    read_run,
    stage_run,
    whole_folder,
    with_defaults,
    write_json,
)

INPUT = Input("dense.pt", "a" * 64)
# Enters a stage, writes half of its output, says so, and waits to be killed.
KILLED = """
import sys, time
from pathlib import Path
from slimdeploy.configs import BenchConfig
from slimdeploy.lineage import stage_run

with stage_run("bench", config=BenchConfig(), inputs={}, out=Path(sys.argv[1])) as run:
    (run.folder / "half.bin").write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def make_stage(out, text="whole"):
    with stage_run("bench", config=BenchConfig(), inputs={"weights": INPUT}, out=out) as run:
        (run.folder / "made.txt").write_text(text, encoding="utf-8")
        run.results["median_s"] = 0.5


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_whole_stage_stands_under_its_name_with_its_run_record(tmp_path):
    make_stage(tmp_path / "out")
    assert left_behind(tmp_path) == ["out"]
    assert sorted(left_behind(tmp_path / "out")) == ["made.txt", "run.json"]


def test_the_run_record_tells_stage_settings_inputs_and_figures(tmp_path):
    make_stage(tmp_path / "out")
    record = read_run(tmp_path / "out")
    assert record["stage"] == "bench"
    assert record["config"]["samples"] == BenchConfig().samples
    assert record["inputs"] == {"weights": {"name": "dense.pt", "sha256": "a" * 64}}
    assert record["results"] == {"median_s": 0.5}
    assert record["versions"]["slimdeploy"] == __version__
    assert record["seconds"] >= 0


def test_the_run_record_holds_the_hash_of_each_output(tmp_path):
    make_stage(tmp_path / "out", text="figures")
    assert read_run(tmp_path / "out")["outputs"] == {"made.txt": hashlib.sha256(b"figures").hexdigest()}


def test_a_file_is_an_input_by_its_name_and_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "dense.pt"
    path.write_bytes(b"x" * (3 << 20))  # more than one block
    assert file_input(path) == Input("dense.pt", hashlib.sha256(b"x" * (3 << 20)).hexdigest())


@pytest.mark.parametrize(
    "error",
    [RuntimeError("broke"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit(1)],
)
def test_a_stage_that_stops_leaves_nothing(tmp_path, error):
    def stop():
        with stage_run("bench", config=BenchConfig(), inputs={}, out=tmp_path / "out") as run:
            (run.folder / "half.bin").write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        stop()
    assert left_behind(tmp_path) == []


def test_a_disk_that_fills_up_while_the_record_is_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lineage, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        make_stage(tmp_path / "out")
    assert left_behind(tmp_path) == []


def test_a_killed_stage_leaves_nothing_under_its_name(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True) as stage:
        assert stage.stdout.readline() == "ready\n"
        stage.kill()
    assert not out.exists()
    make_stage(out)
    assert (out / "made.txt").read_text(encoding="utf-8") == "whole"


def test_an_output_that_exists_is_refused_and_stays_as_it_is(tmp_path):
    make_stage(tmp_path / "out", text="first")
    with pytest.raises(OutputExists, match="nothing is overwritten"):
        make_stage(tmp_path / "out", text="second")
    assert (tmp_path / "out" / "made.txt").read_text(encoding="utf-8") == "first"
    assert left_behind(tmp_path) == ["out"]


def test_an_output_that_appears_while_the_stage_runs_is_not_overwritten(tmp_path):
    def collide():
        with whole_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()

    with pytest.raises(OutputExists):
        collide()
    assert left_behind(tmp_path) == ["out"]


def test_a_file_in_the_place_of_the_parent_folder_is_asked_wrongly(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot write into"):
        make_stage(tmp_path / "file" / "out")


def test_missing_parent_folders_are_made(tmp_path):
    make_stage(tmp_path / "a" / "b" / "out")
    assert (tmp_path / "a" / "b" / "out" / "run.json").is_file()


def test_the_fingerprint_stays_when_only_the_name_of_an_input_changes():
    other = Input("renamed.pt", INPUT.sha256)
    assert fingerprint("val", ValConfig(), {"weights": INPUT}) == fingerprint("val", ValConfig(), {"weights": other})


@pytest.mark.parametrize(
    ("stage", "config", "inputs"),
    [
        pytest.param("bench", ValConfig(), {"weights": INPUT}, id="another stage"),
        pytest.param("val", ValConfig(conf=0.25), {"weights": INPUT}, id="another setting"),
        pytest.param("val", ValConfig(), {"weights": Input("dense.pt", "b" * 64)}, id="another file"),
        pytest.param("val", ValConfig(), {"teacher": INPUT}, id="another role"),
        pytest.param("val", ValConfig(), {}, id="an input less"),
    ],
)
def test_the_fingerprint_changes_with_what_the_outcome_depends_on(stage, config, inputs):
    assert fingerprint(stage, config, inputs) != fingerprint("val", ValConfig(), {"weights": INPUT})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param(None, "no run record", id="missing"),
        pytest.param("{", "is not a run record", id="truncated"),
        pytest.param("[]", "names no schema", id="no object"),
        pytest.param("{}", "names no schema", id="no schema"),
        pytest.param('{"schema": "1"}', "names no schema", id="schema no number"),
        pytest.param('{"schema": 99}', "upgrade slimdeploy", id="newer schema"),
    ],
)
def test_a_wrong_run_record_is_one_clear_line(tmp_path, text, wrong):
    if text is not None:
        (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=wrong):
        read_run(tmp_path)


def test_bytes_that_are_no_text_are_no_record(tmp_path):
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a run record"):
        read_run(tmp_path)


def test_a_json_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    write_json(path, {"schema": 1, "kept": [1]})
    monkeypatch.setattr(json, "dumps", lambda *_args, **_kwargs: "\ud800")  # does not encode: the write stops midway
    with pytest.raises(UnicodeEncodeError):
        write_json(path, {"schema": 1, "kept": [2]})
    monkeypatch.undo()
    assert read_json(path, what="plan")["kept"] == [1]


@dataclasses.dataclass(frozen=True)
class Settings:
    old: int
    new: str = "as ever"


def test_a_setting_that_came_later_stands_at_its_default():
    assert with_defaults(Settings, {"old": 3}) == {"old": 3, "new": "as ever"}


def test_a_setting_that_was_recorded_is_not_replaced():
    assert with_defaults(Settings, {"old": 3, "new": "other"}) == {"old": 3, "new": "other"}

"""`slimdeploy search` as a user meets it: the table, the best trial, and the exit codes."""

from __future__ import annotations

import json

import pytest
import search_stand_in
import typer
from typer.testing import CliRunner

from slimdeploy.cli import app
from slimdeploy.cli.search import show_end
from slimdeploy.errors import GateError, StageFailed, UsageError
from slimdeploy.recipes import read_raw
from slimdeploy.search import run


def call(*argv):
    return CliRunner().invoke(app, ["search", *map(str, argv)])


@pytest.fixture
def done(ended):
    """The folder of a search that has ended."""
    return ended[0]


def test_the_status_shows_every_trial_and_what_it_was_tried_with(done):
    ended = call("--status", "--out", done)
    assert ended.exit_code == 0, ended.output
    assert "7 done, 0 stopped early, 1 failed, 0 running of 8 trials" in ended.output
    assert "trial 2 failed: KeyError" in ended.output
    rows = [line.split() for line in ended.output.splitlines()[2:] if line.startswith(tuple("01234567"))]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5", "6", "7"]
    assert [row[2] for row in rows] == [str(one.values["imgsz"]) for one in run.status(done).records]


def test_the_best_trial_is_the_most_accurate_within_the_bounds(done, tmp_path):
    ended = call("best", done, "--max-p50-ms", 7, "--json", "--out", tmp_path / "best")
    assert ended.exit_code == 0, ended.output
    chosen = json.loads(ended.output)
    within = [one for one in run.status(done).records if one.figures.get("p50_ms", 99) <= 7]
    assert chosen["figures"]["map50_95"] == max(one.figures["map50_95"] for one in within)
    recipe = read_raw(tmp_path / "best" / "recipe.toml")
    assert recipe["imgsz"] == chosen["values"]["imgsz"] == 64
    assert recipe["weights"] == (done.parent / "dense.pt").as_posix()
    assert (tmp_path / "best" / "bundle" / "made.json").exists()


def test_the_recipe_of_a_trial_by_number_is_written(done, tmp_path):
    ended = call("best", done, "--trial", 3, "--out", tmp_path / "three")
    assert ended.exit_code == 0, ended.output
    recipe = read_raw(tmp_path / "three" / "recipe.toml")
    assert recipe["finetune"]["lr0"] == run.status(done).records[3].values["finetune.lr0"]


@pytest.mark.parametrize(
    ("argv", "error", "told"),
    [
        pytest.param(["--max-p50-ms", "1"], GateError, "lowest p50_ms 6.4", id="too strict"),
        pytest.param(["--trial", "77"], UsageError, "no trial 77", id="no such trial"),
        pytest.param(["--trial", "2"], UsageError, "no trial 2 that is done", id="a trial that failed"),
    ],
)
def test_what_cannot_be_chosen_is_told(done, argv, error, told):
    ended = call("best", done, *argv)
    assert isinstance(ended.exception, error)
    assert told in str(ended.exception)


def test_the_best_of_a_folder_that_is_no_search_is_refused(tmp_path):
    ended = call("best", tmp_path)
    assert "is no search's folder" in str(ended.exception)


def test_the_second_best_is_not_written_over_the_first(done):
    assert call("best", done).exit_code == 0
    assert "exists" in str(call("best", done).exception)


@pytest.mark.parametrize(
    "argv", [["--out", "x", "--engine", "slurm", "search.toml"], ["--out", "x", "--address", "a:1", "search.toml"]]
)
def test_a_wrong_engine_is_refused(argv):
    assert isinstance(call(*argv).exception, UsageError)


def test_a_cache_that_nothing_opens_is_refused_before_anything_is_made(search, tmp_path):
    with pytest.raises(UsageError, match=r"the cache nosuch://x does not answer: Protocol not known"):
        search(trials=2, options={"cache": "nosuch://x"})
    assert not (tmp_path / "out").exists()


def test_a_search_needs_a_folder_and_a_file():
    assert "--out is missing" in str(call("search.toml").exception)
    assert "SEARCH.toml is missing" in str(call("--out", "x").exception)


def test_a_search_whose_trials_all_miss_a_constraint_ends_with_the_nearest(search):
    view = search(trials=3, sections="[constraints]\nmax_p50_ms = 2")
    with pytest.raises(GateError, match=r"no trial of 3 meets every constraint; the nearest, trial \d, has p50_ms"):
        run.require_found(view)


def test_with_json_a_search_that_found_nothing_is_one_object_with_the_error_in_it(search, capsys):
    view = search(trials=2, sections="[constraints]\nmax_p50_ms = 2")
    with pytest.raises(typer.Exit) as left:
        show_end(view, json=True)
    told = json.loads(capsys.readouterr().out)
    assert (left.value.exit_code, told["exit_code"], told["error"]) == (5, 5, "GateError")
    assert len(told["records"]) == 2


def test_a_search_whose_trials_all_fail_says_why(search, log):
    for number in range(2):
        search_stand_in.order("bug", "train", number)
    with pytest.raises(StageFailed, match=r"no trial ended well; trial 1 failed: KeyError"):
        run.require_found(search(trials=2))

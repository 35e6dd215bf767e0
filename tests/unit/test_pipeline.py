"""A recipe's steps are made once, redone when something they depend on changed, and taken back when it changes back."""

from __future__ import annotations

import pytest

from slimdeploy import pipeline
from slimdeploy._alone import LOCK, alone_at
from slimdeploy._leftovers import temporary_name
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import OutputExists, StageFailed, UsageError
from slimdeploy.lineage import REQUEST, WORK, Input, partial_of, stage_run
from slimdeploy.pipeline import PREVIOUS, Step, _require_recipes, ensure
from slimdeploy.recipes import read_recipe


class Kitchen:
    """Makes steps and counts how often each was really made."""

    def __init__(self, root):
        self.root, self.made = root, []

    def ensure(self, *, samples: int = 100, sha256: str = "a", fails: bool = False) -> str:
        config, inputs = BenchConfig(samples=samples), {"weights": Input("dense.pt", sha256)}

        def make(out):
            with stage_run("bench", config=config, inputs=inputs, out=out) as run:
                (run.folder / "made.txt").write_text(f"{samples} {sha256}", encoding="utf-8")
                if fails:
                    raise StageFailed("provoked")
            self.made.append((samples, sha256))

        step = Step(folder="export/dense", stage="bench", config=config, inputs=inputs, make=make)
        return (ensure(step, self.root) / "made.txt").read_text()


@pytest.fixture
def kitchen(tmp_path):
    return Kitchen(tmp_path)


def test_a_whole_step_is_not_made_twice(kitchen):
    assert kitchen.ensure() == kitchen.ensure()
    assert len(kitchen.made) == 1


def test_a_changed_setting_makes_the_step_again(kitchen):
    kitchen.ensure(samples=100)
    assert kitchen.ensure(samples=200) == "200 a"


def test_a_changed_input_makes_the_step_again(kitchen):
    kitchen.ensure(sha256="a")
    assert kitchen.ensure(sha256="b") == "100 b"


def test_an_outcome_comes_back_with_its_settings(kitchen):
    kitchen.ensure(samples=100)
    kitchen.ensure(samples=200)
    assert kitchen.ensure(samples=100) == "100 a"
    assert kitchen.made == [(100, "a"), (200, "a")]


def test_the_earlier_outcome_is_kept_aside(kitchen):
    kitchen.ensure(samples=100)
    kitchen.ensure(samples=200)
    kept = list((kitchen.root / PREVIOUS / "export" / "dense").iterdir())
    assert [(folder / "made.txt").read_text() for folder in kept] == ["100 a"]


def test_a_step_that_failed_leaves_no_folder_and_is_made_the_next_time(kitchen):
    with pytest.raises(StageFailed):
        kitchen.ensure(fails=True)
    assert not (kitchen.root / "export" / "dense").exists()
    assert kitchen.ensure() == "100 a"


def test_a_folder_without_a_run_record_is_set_aside_and_made_again(kitchen):
    half = kitchen.root / "export" / "dense"
    half.mkdir(parents=True)
    (half / "made.txt").write_text("half", encoding="utf-8")
    assert kitchen.ensure() == "100 a"


def test_an_unfinished_training_that_nobody_could_go_on_with_is_dropped(kitchen):
    work = partial_of(kitchen.root / "export" / "dense") / WORK
    work.mkdir(parents=True)
    (work / REQUEST).write_text("{", encoding="utf-8")
    assert kitchen.ensure() == "100 a"
    assert not work.exists()


def test_what_a_step_left_that_was_killed_after_its_rename_is_removed(kitchen):
    kitchen.ensure()
    work = kitchen.root / "export" / "dense" / WORK
    work.mkdir()
    (work / REQUEST).touch()
    kitchen.ensure()
    assert not work.exists()
    assert len(kitchen.made) == 1


def dead(name):
    """Return the temporary name of a process that is dead."""
    machine, pid, _, random = temporary_name(name)[len(name) + 2 :].split(".")[0].split("-")
    return f".{name}.{machine}-{pid}-1-{random}.partial"


@pytest.mark.parametrize("name", [LOCK, pytest.param(dead("recipe.json"), id="a record")])
def test_a_recipe_that_was_killed_at_its_very_beginning_may_begin_again(tmp_path, name):
    (tmp_path / name).touch()
    _require_recipes(tmp_path)


@pytest.mark.parametrize("name", ["photo.jpg", ".recipe.json.partial"])
def test_a_folder_of_somebody_else_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(OutputExists, match="is no recipe's folder"):
        _require_recipes(tmp_path)
    assert (tmp_path / name).exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "LOCK_TIMEOUT_S", 0.0)
    monkeypatch.setattr(pipeline, "require", lambda _extra: None)
    (tmp_path / "recipe.toml").write_text(
        'data = "data.yaml"\nweights = "dense.pt"\n[prune]\nchannels = 0.5\n', encoding="utf-8"
    )
    recipe = read_recipe(tmp_path / "recipe.toml")
    out = tmp_path / "out"
    with (
        alone_at(out / LOCK, wait_s=0.0, busy=lambda: UsageError("")),
        pytest.raises(UsageError, match=r"another process runs a recipe in .*out now"),
    ):
        pipeline.run_recipe(recipe, out)

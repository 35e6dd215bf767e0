"""A recipe's steps are made once, redone when something they depend on changed, and taken back when it changes back."""

from __future__ import annotations

import pytest

from slimdeploy.configs import BenchConfig
from slimdeploy.errors import StageFailed
from slimdeploy.lineage import Input, stage_run
from slimdeploy.pipeline import PREVIOUS, Step, ensure


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

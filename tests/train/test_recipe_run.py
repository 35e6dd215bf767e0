"""A recipe goes on where it was stopped, and redoes only what a changed setting touches."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from slimdeploy.errors import OutputExists
from slimdeploy.pipeline import run_recipe
from slimdeploy.recipes import Recipe, read_recipe

pytestmark = [
    # torch warns that LambdaLR steps first, which is ultralytics' own order
    pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ultralytics"),
    # torch's TorchScript exporter tells of its end, and ultralytics' head of its anchors
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
RECIPE = """
title = "tiny"
weights = "{weights}"
imgsz = 64
[prune]
channels = 0.5
criterion = "bn_gamma"  # quicker than the default
reconstruct_images = 8
[finetune]
epochs = 1
batch = 8
device = "cpu"
[export]
check_images = 2
[bench]
samples = 6
rounds = 6
warmup_limit_s = 0.5
"""


@pytest.fixture(scope="module")
def recipe(tiny_weights, tiny_data, tmp_path_factory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE.format(weights=tiny_weights.as_posix()), encoding="utf-8")
    return read_recipe(path, data=tiny_data)


@pytest.fixture(scope="module")
def stopped_and_gone_on(recipe, tmp_path_factory) -> Path:
    """A recipe's folder whose first run was stopped by Ctrl-C in its first export, and whose second went on."""
    out = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slimdeploy.stages.export.export", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe, out)
    stopped = made(out)
    assert sorted(stopped) == ["finetune", "prune"]
    run_recipe(recipe, out)
    assert {stage: made(out)[stage] for stage in stopped} == stopped
    return out


def _interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def made(out: Path) -> dict[str, int]:
    """Return when each stage's run.json was written, in nanoseconds."""
    return {p.parent.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in out.rglob("run.json")}


def test_a_run_that_was_stopped_goes_on_at_the_first_stage_that_is_not_whole(stopped_and_gone_on):
    stages = ["bench", "export/dense", "export/pruned", "export/tuned", "finetune", "prune"]
    assert sorted(made(stopped_and_gone_on)) == stages
    rows = json.loads((stopped_and_gone_on / "report" / "report.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["dense", "pruned", "tuned"]
    assert rows[2]["macs"] == rows[1]["macs"] < rows[0]["macs"]


def test_a_changed_setting_redoes_its_stage_and_what_reads_it(stopped_and_gone_on, recipe):
    before = made(stopped_and_gone_on)
    changed = dataclasses.replace(recipe, bench=dataclasses.replace(recipe.bench, samples=12))
    run_recipe(changed, stopped_and_gone_on)
    after = made(stopped_and_gone_on)
    redone = sorted(stage for stage in before if before[stage] != after[stage])
    assert redone == ["bench"]


def test_a_folder_that_holds_something_else_is_refused(recipe, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExists, match="no recipe's folder"):
        run_recipe(recipe, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_several_passes_prune_step_by_step_each_in_a_folder_of_its_own(recipe, tmp_path):
    report = run_recipe(dataclasses.replace(recipe, passes=2, distil="both"), tmp_path / "out")
    assert [row.name for row in report.rows] == [
        "dense", "pruned-1", "tuned-1", "taught-1", "pruned-2", "tuned-2", "taught-2",
    ]  # fmt: skip
    gains = [note.split(":")[0] for note in report.notes if note.startswith("Distillation")]
    assert gains == ["Distillation (taught-1)", "Distillation (taught-2)"]
    widths = [json.loads((tmp_path / "out" / f"pass-{n}" / "prune" / "plan.json").read_text()) for n in (1, 2)]
    assert [record["asked"] for record in widths] == pytest.approx([1 - 0.5**0.5] * 2)
    sizes = [row.macs for row in report.rows]
    assert sizes[0] > sizes[1] == sizes[2] == sizes[3] > sizes[4] == sizes[5] == sizes[6]
    before, after = (sum(one[i] for one in report.widths) for i in (1, 2))
    assert after / before == pytest.approx(0.5, abs=0.05)

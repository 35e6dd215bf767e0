"""A SEARCH.toml is read whole or refused with what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimdeploy.errors import UsageError
from slimdeploy.search.space import combinations, with_values
from slimdeploy.search.spec import read_spec

RECIPE = """
data = "data.yaml"
weights = "dense.pt"
[sparsify]
epochs = 1
[prune]
channels = 0.5
[finetune]
epochs = 1
[export]
precisions = ["fp32", "fp16"]
"""
SEARCH = """
recipe = "recipe.toml"
[space]
imgsz = [64, 96]
"""


@pytest.fixture
def read(tmp_path):
    """Read a SEARCH.toml of some text beside a recipe."""

    def read(text=SEARCH, recipe=RECIPE):
        (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
        path = tmp_path / "search.toml"
        path.write_text(text, encoding="utf-8")
        return read_spec(path)

    return read


def test_a_search_says_only_what_is_searched(read):
    spec = read(SEARCH + "sparsify.sr = { low = 0.1, high = 0.8, log = true }\n[constraints]\nmax_p50_ms = 10\n")
    assert [one.name for one in spec.space] == ["imgsz", "sparsify.sr"]
    assert spec.objectives == ("map50_95", "p50_ms", "size_mb")
    assert spec.constraints == {"max_p50_ms": 10.0}
    assert (spec.config.sampler, spec.config.trials) == ("tpe", 20)


@pytest.mark.parametrize(
    ("space", "points"),
    [
        pytest.param("imgsz = [64, 96]\npasses = [1, 2, 3]", 6, id="choices"),
        pytest.param("passes = { low = 1, high = 3 }", 3, id="whole numbers"),
        pytest.param("imgsz = { low = 64, high = 160, step = 32 }", 4, id="steps"),
        pytest.param("sparsify.sr = { low = 0.1, high = 0.5 }", float("inf"), id="fractions"),
    ],
)
def test_the_points_of_a_space_are_counted(read, space, points):
    assert combinations(read(f'recipe = "recipe.toml"\n[space]\n{space}\n').space) == points


def test_a_trial_exports_one_form_and_a_budget_takes_the_place_of_the_recipes(read):
    spec = read('recipe = "recipe.toml"\n[space]\nprune.speedup = [1.5, 2.0]\n')
    made = with_values(spec.recipe, {"prune.speedup": 2.0})
    assert (made["prune"], made["export"]) == ({"speedup": 2.0}, {"precision": "fp32"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param('[space]\nimgsz = [64, 96]', "no recipe", id="no recipe"),
        pytest.param('recipe = "other.toml"\n[space]\nimgsz = [64, 96]', "no recipe at", id="recipe missing"),
        pytest.param('recipe = "recipe.toml"', "nothing to search", id="no space"),
        pytest.param('recipe = "recipe.toml"\ntrials = 3\n', "unknown key 'trials'", id="unknown key"),
        pytest.param('recipe = "recipe.toml"\nspace = 3', "space is no section", id="no section"),
        pytest.param(SEARCH + "imgzs = [1, 2]", "unknown setting space.imgzs", id="unknown setting"),
        pytest.param(SEARCH + "prune.imgzs = [1, 2]", "unknown setting space.prune.imgzs", id="in a section"),
        pytest.param(SEARCH + "prune = [1, 2]", "space.prune is no section", id="a section with a list"),
        pytest.param(SEARCH + "val.conf = [0.1, 0.2]", "cannot be searched", id="how is measured"),
        pytest.param(SEARCH + "finetune.seed = [0, 1]", "cannot be searched", id="a seed"),
        pytest.param(SEARCH + "passes = []", "space.passes is", id="no choices"),
        pytest.param(SEARCH + "passes = [1, 1]", "names a value twice", id="twice"),
        pytest.param(SEARCH + "passes = 2", "space.passes is 2", id="a plain value"),
        pytest.param(SEARCH + "sparsify.sr = { low = 0.5, high = 0.1 }", "holds no value", id="range upside down"),
        pytest.param(SEARCH + "sparsify.sr = { low = 0, high = 1, log = true }", "by logarithm", id="log of 0"),
        pytest.param(SEARCH + "sparsify.sr = { low = 0, hihg = 1 }", "unknown key 'hihg'", id="range misspelt"),
        pytest.param(SEARCH + 'sparsify.sr = { low = "a", high = 1 }', "space.sparsify.sr is", id="no numbers"),
        pytest.param('recipe = "recipe.toml"\n[space]\nimgsz = [64]', "single point", id="nothing varies"),
        pytest.param(
            SEARCH + "prune.macs = [0.1, 0.2]\nprune.speedup = [2, 3]", "two budgets", id="two budgets of pruning"
        ),
        pytest.param(SEARCH + "imgsz = [65]", "no TOML", id="a key twice"),
        pytest.param('recipe = "recipe.toml"\n[space]\nimgsz = [64, 65]', "imgsz = 65 makes no recipe", id="a value"),
        pytest.param(SEARCH + 'export.precision = ["fp32", "fp8"]', "'fp8' makes no recipe", id="a precision"),
        pytest.param('objectives = ["speed"]\n' + SEARCH, "unknown objective 'speed'", id="objective"),
        pytest.param('objectives = []\n' + SEARCH, "objectives is no list", id="no objectives"),
        pytest.param('objectives = ["p50_ms", "p50_ms"]\n' + SEARCH, "named twice", id="objective twice"),
        pytest.param(SEARCH + "[constraints]\nmax_ms = 3", "unknown constraint 'max_ms'", id="constraint"),
        pytest.param(SEARCH + "[constraints]\nmax_p50_ms = 0", "which no trial can meet", id="0 ms"),
        pytest.param(SEARCH + "[constraints]\nmin_map = 1.2", "which no trial can meet", id="mAP above 1"),
        pytest.param(SEARCH + "[constraints]\nmin_map = nan", "min_map is nan", id="no number"),
        pytest.param(
            SEARCH + "prune.latency_ms = [20, 30]\n[constraints]\nmax_p50_ms = 10", "the space is closed", id="closed"
        ),
        pytest.param(
            SEARCH + "prune.fps = [20, 30]\n[constraints]\nmax_p50_ms = 10", "the space is closed", id="closed by fps"
        ),
        pytest.param(SEARCH + "[budget]\ntrials = 0", "0 trials", id="no trials"),
        pytest.param(SEARCH + "[budget]\ndays = 1", "unknown key 'days'", id="budget"),
        pytest.param('sampler = "cma"\n' + SEARCH, "a sampler 'cma'", id="sampler"),
        pytest.param(SEARCH + "[trial]\ncpus = -1", "-1 CPUs", id="cpus"),
        pytest.param(SEARCH + '[trial]\ncpus = "two"', "wrong type", id="cpus as a word"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_file(read, text, told):
    with pytest.raises(UsageError, match=r"search\.toml") as refused:
        read(text)
    assert told in str(refused.value)


def test_the_example_reads(monkeypatch):
    monkeypatch.setenv("SLIMDEPLOY_DATA", "/data")
    spec = read_spec(Path(__file__).parents[3] / "examples" / "search.toml")
    assert {"imgsz", "prune.channels", "export.precision"} <= {one.name for one in spec.space}


def test_a_missing_search_is_told(tmp_path):
    with pytest.raises(UsageError, match="no search at"):
        read_spec(tmp_path / "none.toml")


def test_the_budget_is_no_part_of_what_a_study_must_agree_in(read):
    one, other = read(SEARCH + "[budget]\ntrials = 3"), read(SEARCH + "[budget]\ntrials = 9")
    assert one.identity == other.identity


@pytest.mark.parametrize(
    "other", ["seed = 1\n" + SEARCH, SEARCH + "passes = [1, 2]", SEARCH + "[constraints]\nmin_map = 0.1"]
)
def test_another_space_is_another_study(read, other):
    assert read(other).identity != read().identity


def test_another_recipe_is_another_study(read):
    assert read(recipe=RECIPE.replace("0.5", "0.4")).identity != read().identity

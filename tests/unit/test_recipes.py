"""Recipes are read strictly: every key is known, every value in range, and shared keys reach their sections."""

from __future__ import annotations

import re

import pytest

from slimdeploy.errors import UsageError
from slimdeploy.recipes import read_recipe, section

WHOLE = """
title = "cars"
data = "data.yaml"
weights = "dense.pt"
target = "jetson"
imgsz = 320
seed = 7

[sparsify]
epochs = 3
imgsz = 256

[prune]
channels = 0.5

[finetune]
epochs = 4
distil = true

[export]
precisions = ["fp32", "fp16"]
"""


@pytest.fixture
def write(tmp_path):
    def write_recipe(text: str):
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_recipe


def test_paths_are_relative_to_the_recipe(write, tmp_path):
    recipe = read_recipe(write(WHOLE))
    assert (recipe.data, recipe.weights) == (tmp_path / "data.yaml", tmp_path / "dense.pt")


def test_shared_keys_reach_every_section_that_knows_them(write):
    recipe = read_recipe(write(WHOLE))
    assert (recipe.prune.imgsz, recipe.val.imgsz, recipe.export[0].imgsz) == (320, 320, (320, 320))
    assert (recipe.sparsify.seed, recipe.bench.seed) == (7, 7)


def test_a_section_beats_a_shared_key(write):
    assert read_recipe(write(WHOLE)).sparsify.imgsz == 256


def test_each_precision_becomes_an_export(write):
    assert [config.precision for config in read_recipe(write(WHOLE)).export] == ["fp32", "fp16"]


def test_int8_is_a_precision_like_the_others_and_its_settings_stand_in_the_same_section(write):
    asked = 'precisions = ["fp32", "fp16", "int8"]\ncalibrator = "mse"\nmax_drop = 0.5\ndropins = ["triton"]'
    exports = read_recipe(write(WHOLE.replace('precisions = ["fp32", "fp16"]', asked))).export
    assert [config.precision for config in exports] == ["fp32", "fp16", "int8"]
    assert (exports[2].calibrator, exports[2].max_drop, exports[2].seed) == ("mse", 0.5, 7)
    assert exports[2].dropins == ("triton",)


def test_distillation_is_asked_for_in_the_finetune_section(write):
    assert read_recipe(write(WHOLE)).distil == "yes"


@pytest.mark.parametrize(("asked", "meant"), [("false", "no"), ('"both"', "both")])
def test_a_teacher_can_be_left_out_or_compared(write, asked, meant):
    assert read_recipe(write(WHOLE.replace("distil = true", f"distil = {asked}"))).distil == meant


def test_another_word_for_distillation_is_refused(write):
    with pytest.raises(UsageError, match="distil"):
        read_recipe(write(WHOLE.replace("distil = true", 'distil = "maybe"')))


def test_a_section_left_out_leaves_its_stage_out(write):
    recipe = read_recipe(write('data = "d.yaml"\nweights = "w.pt"\n[prune]\nchannels = 0.5\n'))
    assert (recipe.train, recipe.sparsify, recipe.finetune) == (None, None, None)


def test_passes_are_one_unless_the_recipe_asks_for_more(write):
    assert read_recipe(write(WHOLE)).passes == 1
    assert read_recipe(write(f"passes = 3\n{WHOLE}")).passes == 3


@pytest.mark.parametrize("passes", ["0", "1.5", "true", '"two"'])
def test_passes_must_be_a_whole_number(write, passes):
    with pytest.raises(UsageError, match="passes"):
        read_recipe(write(f"passes = {passes}\n{WHOLE}"))


def test_several_passes_need_fine_tuning_between_them(write):
    with pytest.raises(UsageError, match="finetune"):
        read_recipe(write('passes = 2\ndata = "d.yaml"\nweights = "w.pt"\n[prune]\nchannels = 0.5\n'))


def test_a_data_set_from_the_command_line_stands_in(write, tmp_path):
    assert read_recipe(write(WHOLE), data=tmp_path / "other.yaml").data == tmp_path / "other.yaml"


def test_a_path_takes_variables_from_the_environment(write, monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMDEPLOY_TEST_FOLDER", str(tmp_path / "sets"))
    recipe = read_recipe(write(WHOLE.replace("data.yaml", "${SLIMDEPLOY_TEST_FOLDER}/cars.yaml")))
    assert recipe.data == tmp_path / "sets" / "cars.yaml"


def test_one_verb_takes_its_section_alone(write):
    assert section(write(WHOLE), "finetune") == {"imgsz": 320, "seed": 7, "epochs": 4}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(WHOLE.replace("title", "tittle"), "tittle", id="an unknown key"),
        pytest.param(WHOLE.replace("channels", "chanels"), "chanels", id="an unknown setting"),
        pytest.param(WHOLE.replace("0.5", "1.5"), "1.5", id="a share above 1"),
        pytest.param(WHOLE.replace('data = "data.yaml"', ""), "no data set", id="no data set"),
        pytest.param(WHOLE.replace("weights", "title2 = 1 #"), "title2", id="a stray key"),
        pytest.param(WHOLE + "[train]\nepochs = 1\n", "start", id="weights and a section that makes them"),
        pytest.param(WHOLE.replace('["fp32", "fp16"]', '["fp8"]'), "fp8", id="an unknown precision"),
        pytest.param(
            WHOLE.replace('"data.yaml"', '"${SLIMDEPLOY_UNSET}/d"'), "SLIMDEPLOY_UNSET", id="an unset variable"
        ),
        pytest.param("prune = 3\n", "prune", id="a section that is a number"),
        pytest.param("[prune", "TOML", id="no TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(write, text, names):
    with pytest.raises(UsageError, match=names):
        read_recipe(write(text))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param(WHOLE.replace("epochs = 3", "epochs = inf"), "sparsify.epochs is inf", id="infinity"),
        pytest.param(WHOLE.replace("epochs = 3", "epochs = 1.5"), "sparsify.epochs is 1.5", id="a half epoch"),
        pytest.param(WHOLE.replace("epochs = 4", 'amp = "no"'), "finetune.amp is 'no'", id="a word for false"),
        pytest.param(WHOLE.replace("seed = 7", "seed = nan"), "seed is nan", id="no number, for all sections"),
        pytest.param(
            WHOLE.replace("epochs = 4", 'warmup_epochs = "abc"'), "finetune.warmup_epochs is 'abc'", id="text"
        ),
        pytest.param(WHOLE.replace("epochs = 4", "device = 5"), "finetune.device is 5", id="a number for a text"),
        pytest.param(WHOLE.replace("channels = 0.5", 'channels = ""'), "prune.channels is ''", id="an empty text"),
        pytest.param(WHOLE.replace("channels = 0.5", "channels = 1979-05-27"), "prune.channels", id="a date"),
        pytest.param(WHOLE.replace("seed = 7", f"seed = {10**400}"), "seed is an integer", id="a huge number"),
        pytest.param(WHOLE.replace('"cars"', "5"), "title is 5", id="a number as title"),
        pytest.param(WHOLE.replace('"data.yaml"', r'"a\u0000b"'), r"data is 'a\x00b'", id="a NUL in a path"),
        pytest.param(WHOLE.replace('["fp32", "fp16"]', "[{}]"), "export.precisions", id="no precisions"),
        pytest.param(WHOLE.replace('["fp32", "fp16"]', '["fp32", "fp32"]'), "export.precisions", id="one twice"),
        pytest.param(WHOLE.replace("distil = true", "distil = 1"), "finetune.distil is 1", id="1 for true"),
        pytest.param(WHOLE.replace("epochs = 4", "epochs = 0"), "finetune: 0 epochs", id="a value out of range"),
        pytest.param(WHOLE + "\n[bench]\nval = { conf = 0.1 }", "bench.val", id="settings of another section"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_section_and_key(write, text, named):
    with pytest.raises(UsageError, match=re.escape(named)):
        read_recipe(write(text))


def test_one_verbs_section_is_checked_before_its_settings_are_used(write):
    with pytest.raises(UsageError, match=r"recipe\.toml: finetune\.epochs is inf"):
        section(write(WHOLE.replace("epochs = 4", "epochs = inf")), "finetune")


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        read_recipe(tmp_path / "none.toml")

"""Settings are layered, flags first; unknown ones and values out of range are refused."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from slimdeploy import configs
from slimdeploy.configs import BenchConfig, ExportConfig, PruneConfig, SparsifyConfig, TrainConfig, build, share_of_pass
from slimdeploy.errors import UsageError
from slimdeploy.fields import hints

CONFIGS = [c for _, c in inspect.getmembers(configs, inspect.isclass) if dataclasses.is_dataclass(c)]


def test_a_flag_beats_a_recipe_which_beats_the_target():
    built = build(PruneConfig, {"channels": 0.5}, {"channels": 0.3, "imgsz": 320}, {"imgsz": 416, "alignment": 32})
    assert (built.channels, built.imgsz, built.alignment) == (0.5, 320, 32)


def test_a_flag_that_was_not_given_falls_through():
    assert build(TrainConfig, {"epochs": None}, {"epochs": 7}).epochs == 7


def test_what_no_layer_names_keeps_its_default():
    assert build(TrainConfig, {}, {"epochs": 7}).batch == TrainConfig().batch


def test_a_list_of_a_recipe_becomes_a_tuple():
    assert build(ExportConfig, {}, {"imgsz": [320, 640]}).imgsz == (320, 640)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_unknown_setting_is_refused_in_every_layer(layer):
    layers = [{}, {}, {}]
    layers[layer] = {"epoch": 3}
    with pytest.raises(UsageError, match=r"unknown setting 'epoch'; wanted: one of .*epochs"):
        build(TrainConfig, *layers)


WRONG_TYPES = {  # by the type that a setting has
    int: ["many", 1.5, float("inf"), float("nan"), True, [], {}, 10**400],
    float: ["abc", "", float("nan"), float("inf"), True, [], {}, 10**400],
    bool: ["no", 0, 1.0, [], {}],
    str: [5, 1.5, True, [], {}, "a\0b", "a\nb", "\x1b[31m", "\u202eb"],
    tuple: ["text", 5, {}, [{}], [None]],
}


def wrong_values(hint):
    """Values that a setting of this type cannot have; those of another config's settings have their own."""
    plain = next((one for one in typing.get_args(hint) if one in WRONG_TYPES), hint)
    return WRONG_TYPES.get(typing.get_origin(hint)) or WRONG_TYPES.get(plain) or [5, {}, "text"]


WRONG_SETTINGS = [
    pytest.param(config, name, value, id=f"{config.__name__}.{name}={type(value).__name__}-{number}")
    for config in CONFIGS
    for name, hint in hints(config).items()
    for number, value in enumerate(wrong_values(hint))
]


@pytest.mark.parametrize(("config", "name", "value"), WRONG_SETTINGS)
def test_a_setting_of_another_type_is_refused_by_section_and_key(config, name, value):
    with pytest.raises(UsageError, match=rf"^(unknown setting '|)stage\.{name}") as caught:
        build(config, {name: value}, where="stage.")
    assert len(str(caught.value)) < 300


def test_a_message_shows_a_huge_value_in_a_few_characters():
    with pytest.raises(UsageError) as caught:
        build(TrainConfig, {"epochs": [["x" * 10_000] * 1000] * 1000})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["lrf", "warmup_epochs", "weight_decay", "patience", "workers", "seed"])
def test_a_negative_setting_of_a_training_is_refused(name):
    with pytest.raises(UsageError, match="-1"):
        build(TrainConfig, {name: -1})


@pytest.mark.parametrize(
    ("config", "settings", "wrong"),
    [
        (TrainConfig, {"epochs": 0}, "0 epochs"),
        (TrainConfig, {"imgsz": 100}, "100"),
        (TrainConfig, {"imgsz": 0}, "0"),
        (TrainConfig, {"batch": 0}, "batch"),
        (TrainConfig, {"lr0": 0.0}, "learning rate"),
        (SparsifyConfig, {"sr": -1.0}, "sr"),
        (SparsifyConfig, {"penalty": "l2"}, "l2"),
        (PruneConfig, {}, "no budget"),
        (PruneConfig, {"channels": 0.5, "macs": 0.5}, "two budgets"),
        (PruneConfig, {"channels": 1.0}, "share of 1.0"),
        (PruneConfig, {"channels": -0.1}, "share of -0.1"),
        (PruneConfig, {"macs": 0.5, "alignment": 0}, "alignment"),
        (ExportConfig, {"precision": "int4"}, "int4"),
        (ExportConfig, {"imgsz": (640, 100)}, "100"),
        (ExportConfig, {"max_p90_ms": -1.0}, "-1.0 ms"),
        (ExportConfig, {"max_power_mw": -5.0}, "-5.0 mW"),
        (BenchConfig, {"samples": 5, "rounds": 10}, "5 samples"),
        (BenchConfig, {"rounds": 0}, "0 rounds"),
        (BenchConfig, {"threads": -1}, "-1 threads"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(config, settings, wrong):
    with pytest.raises(UsageError, match=wrong):
        build(config, settings)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_setting_has_a_default_and_says_what_it_is(config):
    described = "".join(base.__doc__ or "" for base in config.__mro__)
    for field in dataclasses.fields(config):
        assert {field.default, field.default_factory} != {dataclasses.MISSING}
        assert f"{field.name}:" in described


@pytest.mark.parametrize("budget", ["channels", "macs"])
def test_the_passes_together_remove_what_was_asked_for(budget):
    part = getattr(share_of_pass(PruneConfig(**{budget: 0.488}), 3), budget)
    assert 1 - (1 - part) ** 3 == pytest.approx(0.488)


def test_a_single_pass_removes_all_of_it():
    assert share_of_pass(PruneConfig(channels=0.5), 1) == PruneConfig(channels=0.5)


def test_the_passes_together_are_as_fast_as_was_asked_for():
    assert share_of_pass(PruneConfig(speedup=8.0), 3).speedup == pytest.approx(2.0)


def test_a_latency_has_no_part_for_each_pass():
    with pytest.raises(UsageError, match="speedup"):
        share_of_pass(PruneConfig(latency_ms=8.0), 2)

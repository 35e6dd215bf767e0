"""Records are frozen, named and checked once; they turn into JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from slimdeploy import records
from slimdeploy.errors import UsageError

RECORDS = [c for _, c in inspect.getmembers(records, inspect.isclass) if dataclasses.is_dataclass(c)]
DESCRIBED = [c for c in RECORDS if c is not records.KeptWhole]  # whose one sentence says it all


def make_measurement(**changes):
    fields = {
        "artifact": "dense",
        "sha256": "0" * 64,
        "backend": "onnxruntime",
        "scope": "inference",
        "threads": 2,
        "batch": 1,
        "samples_s": (0.1, 0.2),
        "load_s": 0.5,
        "first_s": 0.3,
        "warmup_s": (0.3,),
        "rounds": (1, 1),
        "peak_memory_mib": None,
        "environment": {"cpu": "a"},
    }
    return records.Measurement(**{**fields, **changes})


def make_group(**changes):
    return records.PlannedGroup(**{"name": "model.0", "width": 16, "kept": (0, 3), "layers": ("model.0",), **changes})


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_frozen_and_takes_keywords_alone(record):
    assert record.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(record))


@pytest.mark.parametrize("record", DESCRIBED, ids=lambda record: record.__name__)
def test_every_record_says_what_each_of_its_fields_is(record):
    described = record.__doc__.split("Attributes:", 1)[1]
    assert [f.name for f in dataclasses.fields(record) if f"{f.name}:" not in described] == []


def test_a_record_becomes_json_with_its_raw_samples():
    plain = json.loads(json.dumps(records.as_json(make_measurement())))
    assert plain["samples_s"] == [0.1, 0.2]
    assert plain["peak_memory_mib"] is None


@pytest.mark.parametrize("samples_s", [(), (0.1, 0.0), (0.1, -0.2)])
def test_a_measurement_needs_samples_above_zero(samples_s):
    with pytest.raises(UsageError, match="samples"):
        make_measurement(samples_s=samples_s)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param((), id="nothing kept"),
        pytest.param((0, 16), id="past the last channel"),
        pytest.param((3, 0), id="not increasing"),
        pytest.param((3, 3), id="one twice"),
    ],
)
def test_a_group_keeps_an_increasing_list_of_its_positions(kept):
    with pytest.raises(UsageError, match=r"model\.0"):
        make_group(kept=kept)


def test_a_group_may_keep_every_position():
    assert make_group(kept=tuple(range(16))).width == 16

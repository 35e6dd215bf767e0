"""Values of records and settings are checked by their annotations."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from slimdeploy import configs, records
from slimdeploy.errors import UsageError
from slimdeploy.fields import hints, mismatch, require

DATACLASSES = [
    kind for module in (configs, records) for _, kind in inspect.getmembers(module, inspect.isclass)
    if dataclasses.is_dataclass(kind)
]  # fmt: skip


@pytest.mark.parametrize("hint", [dict[str, int], Mapping[str, int]], ids=["dict", "Mapping"])
def test_a_table_is_checked_whichever_way_it_is_annotated(hint):
    assert mismatch(hint, {"a": 1}, "penalty") is None
    assert mismatch(hint, {"a": "x"}, "penalty").place == "penalty.a"


def test_a_table_of_anything_takes_anything():
    assert mismatch(dict[str, Any], {"sr": 0.25, "form": "proximal"}, "penalty") is None


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 5), (float, 5), (float, 0.5), (str, ""), (bool, True), (Any, object()), (int | None, None),
        (tuple[int, int], [1, 2]), (tuple[str, ...], ()), (Mapping[str, float], {"a": 1}), (Literal["a", "b"], "a"),
        (tuple[dict[str, Any], ...], ({"a": 1},)), (tuple[float, ...] | None, [0.5]),
    ],
)  # fmt: skip
def test_a_value_of_the_type_fits(hint, value):
    assert mismatch(hint, value) is None


@pytest.mark.parametrize(
    ("hint", "value", "place"),
    [
        (int, 5.0, ""), (int, True, ""), (int, 2**63, ""), (float, float("nan"), ""), (float, float("inf"), ""),
        (float, 10**400, ""), (float, "1", ""), (str, None, ""), (bool, 1, ""), (int | None, "x", ""),
        (tuple[int, int], [1], ""), (tuple[int, int], [1, "x"], "[1]"), (tuple[str, ...], "text", ""),
        (Mapping[str, float], {"a": "x"}, ".a"), (Mapping[str, float], [], ""), (Literal["a", "b"], ["a"], ""),
        (tuple[tuple[float, float], ...], [[1, 2], [3, None]], "[1][1]"), (tuple[float, ...] | None, [None], "[0]"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_with_its_place(hint, value, place):
    assert mismatch(hint, value).place == place


def test_a_record_inside_a_record_is_checked_too():
    group = records.PlannedGroup(name="model.0", width=8, kept=(0,), layers=("model.0",), tied_to=5)
    plan = records.PrunePlan(
        weights_sha256="", imgsz=(64, 64), criterion="", budget="macs", asked=0.5, reached=0.5, alignment=8,
        groups=(group,), kept_whole=(), parameters=(2, 1), macs=(2, 1),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"groups\[0\]\.tied_to is 5"):
        require(plan)


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_every_annotation_of_settings_and_records_has_a_rule(kind):
    for hint in hints(kind).values():
        mismatch(hint, None)

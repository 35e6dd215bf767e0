"""Errors tell what was wrong, what was wanted and what to do, and end the process with the code of their kind."""

from __future__ import annotations

import inspect
import re

import pytest

from slimdeploy import errors
from slimdeploy.errors import SlimdeployError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, SlimdeployError)]
CODES = {
    "SlimdeployError": 1,
    "StageFailed": 1,
    "UsageError": 2,
    "CheckpointError": 2,
    "DataError": 2,
    "TargetError": 2,
    "ArtifactError": 2,
    "OutputExists": 2,
    "MissingDependency": 3,
    "DeviceError": 4,
    "GateError": 5,
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_the_exit_code_of_its_kind(kind):
    assert kind("x").exit_code == CODES[kind.__name__]


def test_the_drawn_tree_names_every_error_with_its_code():
    drawn = dict(re.findall(r"(\w+) +(\d)  ", errors.__doc__))
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in CLASSES}


def test_the_line_says_wrong_wanted_and_do_in_this_order():
    error = SlimdeployError("a ratio of 2", wanted="0 to 1", do="pass --channels 0.5")
    assert str(error) == "a ratio of 2; wanted: 0 to 1; do: pass --channels 0.5"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param({}, "wrong", id="neither"),
        pytest.param({"wanted": "this"}, "wrong; wanted: this", id="wanted alone"),
        pytest.param({"do": "that"}, "wrong; do: that", id="do alone"),
    ],
)
def test_the_line_leaves_out_what_was_not_given(given, line):
    assert str(SlimdeployError("wrong", **given)) == line


def test_the_json_form_names_the_class_and_its_code():
    assert errors.DataError("no images", wanted="some").as_json() == {
        "error": "DataError",
        "exit_code": 2,
        "wrong": "no images",
        "wanted": "some",
        "do": "",
    }

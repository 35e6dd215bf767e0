"""Layers of trtexec's own files, and the command that makes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimdeploy.backends.trtexec import parse, profiling
from slimdeploy.errors import ArtifactError
from slimdeploy.records import LayerTime

PROFILE = [
    {"count": 1000},
    {"name": "/model.0/conv/Conv", "timeMs": 120.0, "averageMs": 0.12, "medianMs": 0.119, "percentage": 60.0},
    {"name": "/model.22/Sigmoid", "timeMs": 80.0, "averageMs": 0.08, "medianMs": 0.079, "percentage": 40.0},
]
LAYERS = {
    "Layers": [
        {
            "Name": "/model.0/conv/Conv", "LayerType": "CaskConvolution",
            "Outputs": [{"Name": "a", "Dimensions": [1, 16, 160, 160], "Format/Datatype": "Half"}],
        },
        "/model.22/Sigmoid",  # without detailed verbosity, a layer is its name alone
    ],
    "Bindings": ["images", "output0"],
}  # fmt: skip


def test_a_profile_of_trtexec_gives_the_mean_of_each_layer_in_seconds():
    assert parse(PROFILE) == (
        LayerTime(name="/model.0/conv/Conv", operator="", seconds=0.12 / 1000, width=None),
        LayerTime(name="/model.22/Sigmoid", operator="", seconds=0.08 / 1000, width=None),
    )


def test_layer_information_adds_operators_and_widths_where_it_has_them():
    first, second = parse(PROFILE, LAYERS)
    assert (first.operator, first.width) == ("CaskConvolution", 16)
    assert (second.operator, second.width) == ("", None)


@pytest.mark.parametrize("profile", [None, [{"name": "a"}], [1, 2], [{"name": "a", "averageMs": "much"}]])
def test_what_is_no_profile_is_refused(profile):
    with pytest.raises(ArtifactError, match="no profile of trtexec"):
        parse(profile)


def test_a_build_goes_on_to_time_its_layers():
    options = profiling(["--onnx=a.onnx", "--stronglyTyped", "--skipInference"], Path("made"), 20)
    assert options[:2] == ["--onnx=a.onnx", "--stronglyTyped"]
    assert "--skipInference" not in options
    assert {"--iterations=20", "--separateProfileRun", "--profilingVerbosity=detailed"} <= set(options)
    assert f"--exportProfile={Path('made') / 'profile.json'}" in options

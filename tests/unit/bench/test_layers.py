"""Layers of trtexec's own files, and shares by operator."""

from __future__ import annotations

import pytest

from slimdeploy.bench.layers import by_operator, parse_trtexec
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
    assert parse_trtexec(PROFILE) == (
        LayerTime(name="/model.0/conv/Conv", operator="", seconds=0.12 / 1000, width=None),
        LayerTime(name="/model.22/Sigmoid", operator="", seconds=0.08 / 1000, width=None),
    )


def test_layer_information_adds_operators_and_widths_where_it_has_them():
    first, second = parse_trtexec(PROFILE, LAYERS)
    assert (first.operator, first.width) == ("CaskConvolution", 16)
    assert (second.operator, second.width) == ("", None)


@pytest.mark.parametrize("profile", [None, [{"name": "a"}], [1, 2], [{"name": "a", "averageMs": "much"}]])
def test_what_is_no_profile_is_refused(profile):
    with pytest.raises(ArtifactError, match="no profile of trtexec"):
        parse_trtexec(profile)


def test_operators_are_told_with_their_shares_the_largest_first():
    layers = [
        LayerTime(name=str(i), operator=operator, seconds=seconds, width=None)
        for i, (operator, seconds) in enumerate([("Conv", 3.0), ("Mul", 1.0), ("Conv", 4.0)])
    ]
    assert by_operator(layers) == [("Conv", 2, 0.875), ("Mul", 1, 0.125)]

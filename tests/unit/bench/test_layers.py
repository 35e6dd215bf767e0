"""Shares of the time by operator."""

from __future__ import annotations

from slimdeploy.bench.layers import by_operator
from slimdeploy.records import LayerTime


def test_operators_are_told_with_their_shares_the_largest_first():
    layers = [
        LayerTime(name=str(i), operator=operator, seconds=seconds, width=None)
        for i, (operator, seconds) in enumerate([("Conv", 3.0), ("Mul", 1.0), ("Conv", 4.0)])
    ]
    assert by_operator(layers) == [("Conv", 2, 0.875), ("Mul", 1, 0.125)]

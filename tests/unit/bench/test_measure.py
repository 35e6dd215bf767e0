"""What is refused before any process is started, and how samples are spread over rounds."""

from __future__ import annotations

import pytest

from slimdeploy.bench.course import split
from slimdeploy.bench.measure import measure
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import UsageError


@pytest.mark.parametrize(("samples", "rounds", "expected"), [(10, 5, (2,) * 5), (7, 3, (3, 2, 2)), (3, 3, (1, 1, 1))])
def test_samples_are_spread_evenly_over_the_rounds(samples, rounds, expected):
    assert split(samples, rounds) == expected


@pytest.mark.parametrize("names", [(), ("same", "same")])
def test_models_without_names_of_their_own_are_refused(names):
    with pytest.raises(UsageError, match="each with its own name"):
        measure([(name, None) for name in names], BenchConfig())

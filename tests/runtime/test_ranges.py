"""Ranges of activations: the histograms lose nothing as they grow, and each rule cuts where it says it does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from slimdeploy.stages import _ranges
from slimdeploy.stages._ranges import BINS, LEVELS, Histogram, limit


def histogram(*tensors):
    found = Histogram()
    for values in tensors:
        found.add(np.asarray(values, np.float32))
    return found


@pytest.fixture
def bell():
    """Normal values with one outlier a hundred deviations out."""
    values = np.random.default_rng(0).normal(0, 1, 60_000)
    return histogram(values, [100.0])


def test_the_peak_is_the_largest_magnitude_of_either_sign():
    assert histogram([1, -3], [2]).peak == 3


def test_a_histogram_that_grows_keeps_its_counts_and_their_places():
    small = np.linspace(0.001, 0.999, 999)
    grown, whole = histogram(small, [3.9]), histogram([3.9], small)
    assert grown.counts.sum() == whole.counts.sum() == 1000
    assert grown.top >= 3.9
    centres = (np.arange(BINS) + 0.5) * grown.top / BINS
    assert (grown.counts * centres).sum() / 1000 == pytest.approx((small.sum() + 3.9) / 1000, abs=grown.top / BINS)


def test_all_zeros_have_no_range_and_no_error():
    assert [limit(histogram([0, 0]), rule) for rule in ("minmax", "percentile", "entropy", "mse")] == [0, 0, 0, 0]


def test_min_max_keeps_an_outlier_percentile_and_entropy_cut_it_off_and_mse_weighs_it(bell):
    assert limit(bell, "minmax") == 100
    assert limit(bell, "percentile") < 20
    assert limit(bell, "entropy") < 20
    assert 20 < limit(bell, "mse") < 100


def test_the_percentile_leaves_one_value_in_ten_thousand_out():
    values = np.arange(1, 100_001)
    assert limit(histogram(*np.split(values, 10)), "percentile") == pytest.approx(99_990, rel=1e-3)


def test_mse_cuts_where_rounding_and_cutting_together_cost_least(bell):
    centres = (np.arange(BINS) + 0.5) * bell.top / BINS

    def cost(top):
        scale = top / (LEVELS - 1)
        return (bell.counts * (centres - np.minimum(np.rint(centres / scale), LEVELS - 1) * scale) ** 2).sum()

    found = limit(bell, "mse")
    assert all(cost(found) <= cost(other) * 1.05 for other in np.linspace(bell.top / 16, bell.top, 40))


def test_entropy_of_an_even_distribution_cuts_nothing_that_matters():
    values = np.random.default_rng(1).uniform(-1, 1, 60_000)
    assert limit(histogram(values), "entropy") == pytest.approx(1.0, abs=0.1)


def test_activations_are_observed_by_name_over_all_inputs(conv_model):
    model = onnx.load(conv_model("m", repeats=2))
    rng = np.random.default_rng(0)
    inputs = [rng.random((1, 3, 32, 32), dtype=np.float32) for _ in range(3)]
    found = _ranges.observe(model, ["images", "c0"], inputs)
    assert found["images"].peak == pytest.approx(max(one.max() for one in inputs))
    assert found["c0"].counts.sum() == 3 * 8 * 32 * 32
    assert [o.name for o in model.graph.output] == ["output0"]

"""Summaries of latency: percentiles, spread, and honest comparisons."""

from __future__ import annotations

import dataclasses
import random

import pytest

from slimdeploy.bench.stats import MIN_ROUNDS, mad, percentile, ratio, round_medians, spread, summary
from slimdeploy.errors import UsageError
from slimdeploy.records import Measurement


def measurement(samples_s, rounds, *, name="model", batch=1) -> Measurement:
    return Measurement(
        artifact=name,
        sha256="",
        backend="onnxruntime",
        scope="inference",
        threads=1,
        batch=batch,
        samples_s=tuple(samples_s),
        load_s=0.1,
        first_s=0.1,
        warmup_s=(),
        rounds=tuple(rounds),
        peak_memory_mib=None,
        environment={},
    )


def noisy(centre_s: float, *, seed: int, rounds: int = 10, drift: tuple[float, ...] = ()) -> Measurement:
    """Ten samples a round around a centre, each round multiplied by the machine's drift."""
    chance = random.Random(seed)
    factors = drift or (1.0,) * rounds
    samples = [centre_s * factor * chance.lognormvariate(0, 0.03) for factor in factors for _ in range(10)]
    return measurement(samples, [10] * rounds)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(0.0, 1.0, id="the smallest"),
        pytest.param(0.5, 2.5, id="between the two in the middle"),
        pytest.param(0.9, 3.7, id="interpolated"),
        pytest.param(1.0, 4.0, id="the largest"),
    ],
)
def test_percentiles_are_interpolated_whatever_the_order(share, expected):
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(expected)


@pytest.mark.parametrize(("samples_s", "share"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_a_percentile_of_nothing_or_out_of_range_is_refused(samples_s, share):
    with pytest.raises(UsageError, match="percentile"):
        percentile(samples_s, share)


def test_one_slow_call_does_not_move_the_spread():
    calm = [0.010, 0.011, 0.012, 0.013, 0.014]
    assert mad([*calm[:-1], 9.0]) == pytest.approx(mad(calm))
    assert spread([*calm[:-1], 9.0]) == pytest.approx(spread(calm))


def test_images_a_second_count_every_image_of_the_batch():
    assert summary(measurement([0.5, 0.5], [2], batch=4)).images_per_s == pytest.approx(8)


def test_each_round_has_its_own_median():
    assert round_medians(measurement([1.0, 2.0, 9.0, 5.0], [3, 1])) == [2.0, 5.0]


def test_rounds_that_do_not_add_up_are_refused():
    with pytest.raises(UsageError, match="rounds of"):
        round_medians(measurement([1.0, 2.0], [3]))


def test_a_quicker_model_is_shown_to_be_quicker():
    found = ratio(noisy(0.010, seed=1), noisy(0.008, seed=2))
    assert found.shown
    assert found.low < 0.8 < found.high < 0.9


def test_a_model_against_itself_shows_no_difference():
    one = noisy(0.010, seed=1)
    found = ratio(one, one)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert not found.shown


def test_drift_of_the_machine_cancels_out():
    drift = tuple(1 + 0.2 * number for number in range(10))
    found = ratio(noisy(0.010, seed=1, drift=drift), noisy(0.009, seed=2, drift=drift))
    assert found.shown
    assert found.high - found.low < 0.05


def test_equal_models_rarely_show_a_difference():
    shown = sum(ratio(noisy(0.010, seed=2 * i), noisy(0.010, seed=2 * i + 1)).shown for i in range(60))
    assert shown <= 8  # 5 % of 60 is 3; more than 8 would come about once in 200 times


def test_too_few_rounds_show_no_difference_however_large():
    few = MIN_ROUNDS - 1
    assert not ratio(noisy(0.010, seed=1, rounds=few), noisy(0.001, seed=2, rounds=few)).shown


def test_the_interval_is_the_same_each_time_for_the_same_seed():
    pair = noisy(0.010, seed=1), noisy(0.011, seed=2)
    assert ratio(*pair, seed=3) == ratio(*pair, seed=3)


def test_a_ratio_is_by_the_image_not_by_the_call():
    one = noisy(0.010, seed=1)
    assert ratio(one, dataclasses.replace(one, batch=2)).value == pytest.approx(0.5)


def test_models_of_different_runs_are_not_compared_round_by_round():
    with pytest.raises(UsageError, match=r"10 rounds and .* has 9;"):
        ratio(noisy(0.010, seed=1), noisy(0.010, seed=1, rounds=9))

"""Robust summaries of latency: seconds in, seconds out, standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from slimdeploy.errors import UsageError
from slimdeploy.records import Measurement

SIGMAS_PER_MAD = 1.4826  # normal standard deviations in one median absolute deviation
MIN_ROUNDS = 6  # with fewer, even identical models have every round on one side more than once in twenty times
RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is shown of one measurement.

    Attributes:
        p50_s: half of the calls took at most this long.
        p90_s: nine in ten.
        p99_s: ninety-nine in a hundred.
        spread: median absolute deviation as normal standard deviations, as a share of the median.
        images_per_s: images a second at the median.
    """

    p50_s: float
    p90_s: float
    p99_s: float
    spread: float
    images_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How long one model takes, as a multiple of another measured in the same rounds.

    Attributes:
        value: median over the rounds; below 1 is quicker.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        rounds: rounds that it rests on.
    """

    value: float
    low: float
    high: float
    rounds: int

    @property
    def shown(self) -> bool:
        """Whether the measurement shows a difference at all."""
        return self.rounds >= MIN_ROUNDS and not self.low <= 1 <= self.high


def percentile(samples_s: Sequence[float], share: float) -> float:
    """Return the value below which a share of the samples lies, interpolated between neighbours.

    Args:
        samples_s: seconds a call; shape (n,), n >= 1.
        share: in 0..1.

    Raises:
        UsageError: `samples_s` is empty, or the share lies outside 0..1.
    """
    if not samples_s or not 0 <= share <= 1:
        raise UsageError(f"a percentile of {len(samples_s)} samples at {share}", wanted="samples, and a share in 0..1")
    ordered = sorted(samples_s)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def mad(samples_s: Sequence[float]) -> float:
    """Return the median absolute deviation from the median; `samples_s` has shape (n,), n >= 1."""
    centre = median(samples_s)
    return median(abs(sample - centre) for sample in samples_s)


def spread(samples_s: Sequence[float]) -> float:
    """Return the robust standard deviation as a share of the median; `samples_s` has shape (n,), n >= 1."""
    return SIGMAS_PER_MAD * mad(samples_s) / median(samples_s)


def summary(measurement: Measurement) -> Summary:
    """Return the figures that are shown of a measurement."""
    samples_s = measurement.samples_s
    p50_s = percentile(samples_s, 0.5)
    return Summary(
        p50_s=p50_s,
        p90_s=percentile(samples_s, 0.9),
        p99_s=percentile(samples_s, 0.99),
        spread=spread(samples_s),
        images_per_s=measurement.batch / p50_s,
    )


def round_medians(measurement: Measurement) -> list[float]:
    """Return the median of each round, in seconds.

    Raises:
        UsageError: the rounds do not add up to the samples.
    """
    if sum(measurement.rounds) != len(measurement.samples_s) or min(measurement.rounds, default=0) < 1:
        raise UsageError(
            f"{measurement.artifact}: rounds of {list(measurement.rounds)} samples",
            wanted=f"rounds that add up to {len(measurement.samples_s)} samples",
        )
    medians, start = [], 0
    for count in measurement.rounds:
        medians.append(median(measurement.samples_s[start : start + count]))
        start += count
    return medians


def ratio(base: Measurement, other: Measurement, *, seed: int = 0) -> Ratio:
    """Compare two measurements round by round, so that drift of the machine cancels out.

    The value is the median of the rounds' ratios (other / base, an image each); the interval is the percentile
    bootstrap over rounds.

    Args:
        base: what is compared with.
        other: what is compared.
        seed: of the resampling.

    Raises:
        UsageError: the two were not measured in the same rounds.

    Source: Efron (1979), Bootstrap methods: another look at the jackknife.
    """
    if len(base.rounds) != len(other.rounds):
        raise UsageError(
            f"{base.artifact} has {len(base.rounds)} rounds and {other.artifact} has {len(other.rounds)}",
            wanted="two models that were measured in one run",
            do="name both to one slimdeploy bench",
        )
    pairs = zip(round_medians(base), round_medians(other), strict=True)
    ratios = [(theirs / other.batch) / (ours / base.batch) for ours, theirs in pairs]
    low, high = _interval(ratios, seed)
    return Ratio(value=median(ratios), low=low, high=high, rounds=len(ratios))


def _interval(ratios: Sequence[float], seed: int) -> tuple[float, float]:
    chance = random.Random(seed)
    medians = [median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    return percentile(medians, tail), percentile(medians, 1 - tail)

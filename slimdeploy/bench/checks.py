"""Reasons to doubt a measurement: a closed list, each with its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from slimdeploy.bench.stats import spread

MIN_SAMPLES = 100  # with fewer, the p99 is the slowest call
NOISY_SPREAD = 0.05
OTHER_CORES = 0.1
TIMER_SHARE = 0.01

NOISY = "the calls vary by {found:.0%} (robust standard deviation); close other programs, or take more --samples"
OTHER_LOAD = "other processes kept {found:.1f} cores busy meanwhile; end them and measure again"
WARM_UP = "the median was still moving when the warm-up ended after {found:.1f} s; let the machine settle and repeat"
COARSE_TIMER = "one step of the clock is {found:.1%} of a call; time a larger batch or a larger input"
FEW_SAMPLES = "{found} samples make the p99 the slowest call; take --samples 100 or more"
GOVERNOR = "the frequency governor is {found}, so the clock moves; set it: sudo cpupower frequency-set -g performance"
THROTTLED = "the clock was held down meanwhile ({found}); cool the machine or lower its power mode, and measure again"
GPU_CLOCK = "the GPU's clock may move ({found}); set it fast: sudo jetson_clocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the checks look at.

    Attributes:
        samples_s: seconds a call; shape (n,), n >= 1.
        warmup_s: for how long the warm-up lasted, in seconds.
        stable: whether the median had settled when the warm-up ended.
        other_cores: cores that other processes kept busy during the timed calls, or None where unknown.
        environment: of `environment.environment`.
    """

    samples_s: tuple[float, ...]
    warmup_s: float
    stable: bool
    other_cores: float | None
    environment: Mapping[str, Any]


def doubts(observed: Observed) -> tuple[str, ...]:
    """Return what a reader must know before trusting a measurement; each sentence ends with what to do."""
    varies = spread(observed.samples_s)
    step = observed.environment.get("timer_resolution_s", 0.0) / median(observed.samples_s)
    governor = observed.environment.get("governor", "performance")
    count = len(observed.samples_s)
    found = (
        (NOISY, varies, varies > NOISY_SPREAD),
        (OTHER_LOAD, observed.other_cores, (observed.other_cores or 0.0) > OTHER_CORES),
        (WARM_UP, observed.warmup_s, not observed.stable),
        (COARSE_TIMER, step, step > TIMER_SHARE),
        (FEW_SAMPLES, count, count < MIN_SAMPLES),
        (GOVERNOR, governor, governor != "performance"),
        (THROTTLED, *_throttled(observed.environment)),
        (GPU_CLOCK, *_moving_gpu(observed.environment.get("board", {}))),
    )
    return tuple(sentence.format(found=value) for sentence, value, holds in found if holds)


def _throttled(environment: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what held clocks down between `environment` and its `after`, and whether anything did."""
    after = environment.get("after", {})
    times = after.get("throttled", 0) - environment.get("throttled", 0)
    reasons = [reason for card in after.get("gpus", ()) for reason in card.get("throttled", ())]
    found = [*([f"{times} times too hot"] if times > 0 else []), *dict.fromkeys(reasons)]
    return ", ".join(found), bool(found)


def _moving_gpu(board: Mapping[str, Any]) -> tuple[str, bool]:
    found = f"{board.get('min_mhz', 0):g} to {board.get('max_mhz', 0):g} MHz"
    return found, board.get("gpu_clock_locked") is False

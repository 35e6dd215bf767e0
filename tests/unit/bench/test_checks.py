"""Doubts about a measurement: each appears where it holds, and nowhere else."""

from __future__ import annotations

import dataclasses
import re

import pytest

from slimdeploy.bench.checks import Observed, doubts

CALM = Observed(
    samples_s=tuple(0.010 + 0.0001 * (i % 3) for i in range(200)),
    warmup_s=1.0,
    stable=True,
    other_cores=0.01,
    environment={"timer_resolution_s": 1e-9, "governor": "performance"},
)


def test_a_calm_machine_gives_no_doubts():
    assert doubts(CALM) == ()


def test_what_the_system_does_not_tell_gives_no_doubts():
    assert doubts(dataclasses.replace(CALM, other_cores=None, environment={})) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"samples_s": tuple(0.010 + 0.001 * (i % 9) for i in range(200))}, "vary by", id="noise"),
        pytest.param({"other_cores": 1.25}, "kept 1.2 cores busy", id="other load"),
        pytest.param({"stable": False, "warmup_s": 10.0}, "after 10.0 s", id="unstable warm-up"),
        pytest.param({"environment": {"timer_resolution_s": 0.001}}, "clock is 9.9% of a call", id="coarse timer"),
        pytest.param({"samples_s": CALM.samples_s[:99]}, "99 samples", id="few samples"),
        pytest.param({"environment": {"governor": "powersave"}}, "governor is powersave", id="governor"),
    ],
)
def test_each_doubt_says_what_was_found_and_what_to_do(change, said):
    (only,) = doubts(dataclasses.replace(CALM, **change))
    assert said in only
    assert re.search(r"[;:] (close|end|let|time|take|set)\b", only)

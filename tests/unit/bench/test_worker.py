"""The worker's own decisions: when the warm-up is over, and what a request's artifact is."""

from __future__ import annotations

import json

import pytest

from slimdeploy.bench.worker import Bench, artifact_from_json, is_stable
from slimdeploy.records import Artifact, ModelSpec, as_json

ARTIFACT = Artifact(
    path="model.onnx",
    format="onnx",
    precision="fp32",
    sha256="0" * 64,
    spec=ModelSpec(task="detect", classes=("car", "van"), imgsz=(64, 96)),
    parameters=1,
    macs=1,
    size_bytes=1,
)


class Session:
    """Gives nothing, and counts its calls."""

    calls = 0

    def run(self, feeds):
        self.calls += 1
        return {}

    def close(self):
        pass


def test_an_artifact_survives_the_way_to_the_worker():
    assert artifact_from_json(json.loads(json.dumps(as_json(ARTIFACT)))) == ARTIFACT


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param([], False, id="nothing yet"),
        pytest.param([[1.0], [1.0]], False, id="too few windows"),
        pytest.param([[2.0], [1.5], [1.0]], False, id="still falling"),
        pytest.param([[9.0], [1.0], [1.01], [1.02]], True, id="settled after a slow start"),
        pytest.param([[1.0, 1.0, 9.0], [1.0, 1.0, 1.0], [1.0, 9.0, 1.0]], True, id="single slow calls"),
    ],
)
def test_the_warm_up_ends_when_successive_medians_agree(windows, expected):
    assert is_stable(windows) is expected


def test_a_warm_up_that_never_settles_ends_at_the_limit(monkeypatch):
    monkeypatch.setattr("slimdeploy.bench.worker.require_sound", lambda outputs, spec, **known: None)
    monkeypatch.setattr("slimdeploy.bench.worker.is_stable", lambda windows: False)
    monkeypatch.setattr("slimdeploy.bench.worker.WINDOW_S", 0.01)
    warmed = Bench(session=Session(), feeds=({"images": [0]},), artifact=ARTIFACT).warm_up({"limit_s": 0.05})
    assert warmed["stable"] is False
    assert len(warmed["warmup_s"]) >= 3


def test_a_turn_times_exactly_the_calls_that_were_asked_for():
    session = Session()
    turn = Bench(session=session, feeds=({},)).sample({"count": 7})
    assert len(turn["samples_s"]) == 7
    assert session.calls > 7  # the first ones are not timed
    assert turn["wall_s"] >= sum(turn["samples_s"])

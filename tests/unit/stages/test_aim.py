"""Planning to a latency, with a machine that is not as its table says in place of a real one."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from synthetic_coupling import Blocks, chain

from slimdeploy.configs import PruneConfig
from slimdeploy.errors import GateError, UsageError
from slimdeploy.records import Measurement, Sensitivity
from slimdeploy.stages import aim as aiming
from slimdeploy.stages.losses import costs_of, planned_units, trial_width
from slimdeploy.stages.planner import forecast_ms
from slimdeploy.targets import load_target

COUPLING = chain()
EVEN = {group.name: (1.0,) * group.width for group in COUPLING.groups}
TABLE = Blocks(measured=True)
TRUE = Blocks(fixed_ms=1.5)  # the machine: all that the table says, and a millisecond more
DENSE_MS = forecast_ms(COUPLING, COUPLING.whole(), TRUE)
WHOLE = Sensitivity(groups=("stem",), width=128, tried=64, damage=0.5, positives=(9, 5))


class Artifact:
    """Stands for what was built: the widths that it was cut to."""

    def __init__(self, widths):
        self.widths = widths


def measured(name, widths):
    samples = (forecast_ms(COUPLING, widths, TRUE) / 1e3,) * 6
    return Measurement(
        artifact=name, sha256="", backend="onnxruntime", scope="inference", threads=1, batch=1, samples_s=samples,
        load_s=0.1, first_s=0.1, warmup_s=(), rounds=(1,) * 6, peak_memory_mib=None, environment={},
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Return the widths of every artifact that was measured, in order."""
    seen = []

    def measure(artifacts, config, *, backend):
        seen.extend(artifact.widths for name, artifact in artifacts if name != "dense")
        return [measured(name, artifact.widths) for name, artifact in artifacts]

    monkeypatch.setattr(aiming, "measure", measure)
    monkeypatch.setattr(aiming, "cut_copy", lambda module, coupling, kept: {n: len(one) for n, one in kept.items()})
    monkeypatch.setattr(aiming, "build", lambda module, *args, **settings: Artifact(module))
    return seen


def aim(*, least_share=0.1, whole=lambda widths: WHOLE, forecast=TABLE, alignment=1):
    units = planned_units(COUPLING, alignment, least_share)
    tried = tuple(
        Sensitivity(groups=u.names, width=u.width, tried=trial_width(u), damage=0.1, positives=(9, 8)) for u in units
    )
    trials = SimpleNamespace(alone=tried, whole=whole, require_alive=whole)
    return aiming.Aim(
        module=COUPLING.whole(), coupling=COUPLING, importance=EVEN, costs=costs_of(units, EVEN, tried), trials=trials,
        forecast=forecast, target=load_target("cpu"), weights_sha256="ab",
    )  # fmt: skip


def config(**budget):
    return PruneConfig(alignment=1, imgsz=64, samples=6, **budget)


@pytest.mark.parametrize(
    ("budget", "wanted_ms"),
    [
        pytest.param({"speedup": 1.6}, DENSE_MS / 1.6, id="speedup"),
        pytest.param({"latency_ms": 0.7 * DENSE_MS}, 0.7 * DENSE_MS, id="latency"),
        pytest.param({"fps": 1e3 / (0.6 * DENSE_MS)}, 0.6 * DENSE_MS, id="images a second"),
    ],
)
def test_the_latency_measured_is_in_the_middle_of_the_tolerance(asked, budget, wanted_ms):
    plan = aiming.plan_by_measuring(aim(), config(**budget))
    widths = {group.name: len(group.kept) for group in plan.groups}
    assert forecast_ms(COUPLING, widths, TRUE) == pytest.approx(wanted_ms, rel=0.025)
    assert plan.latency.measured_ms[1] == pytest.approx(forecast_ms(COUPLING, widths, TRUE))
    assert asked[-1] == widths


def test_an_attempt_at_the_edge_of_the_tolerance_is_followed_by_another(asked):
    wide = PruneConfig(alignment=1, imgsz=64, samples=6, speedup=1.8, latency_tolerance=0.4)
    first = aiming.plan_by_measuring(aim(), dataclasses.replace(wide, attempts=1))
    assert abs(first.latency.speedup / 1.8 - 1) > 0.2 * 0.4
    asked.clear()
    narrow = dataclasses.replace(wide, latency_tolerance=abs(1.8 / first.latency.speedup - 1) * 1.2)
    second = aiming.plan_by_measuring(aim(), narrow)
    assert len(asked) > 1
    assert abs(second.latency.speedup - 1.8) < abs(first.latency.speedup - 1.8)


def test_where_no_widths_lie_nearer_the_nearest_within_the_tolerance_is_taken(asked):
    coarse = PruneConfig(alignment=16, imgsz=64, samples=6, speedup=1.3, latency_tolerance=0.2)
    plan = aiming.plan_by_measuring(aim(alignment=16), coarse)
    assert abs(1.3 / plan.latency.speedup - 1) <= 0.2
    assert len(asked) < coarse.attempts


def test_the_plan_gives_the_interval_of_its_speedup(asked):
    latency = aiming.plan_by_measuring(aim(), config(speedup=1.6)).latency
    low, high = latency.speedup_interval
    assert low <= latency.speedup <= high
    assert aiming.plan_by_forecast(aim(forecast=Blocks()), config(speedup=1.6)).latency.speedup_interval is None


def test_a_table_that_is_wrong_is_corrected_by_measuring(asked):
    aiming.plan_by_measuring(aim(), config(speedup=1.8))
    assert len(asked) > 1


def test_the_plan_says_what_was_planned_and_measured_and_where_from(asked):
    latency = aiming.plan_by_measuring(aim(), config(speedup=1.6)).latency
    assert not latency.estimated
    assert latency.source == "a made-up machine"
    assert latency.planned_ms[0] == pytest.approx(forecast_ms(COUPLING, COUPLING.whole(), TABLE))
    assert latency.measured_ms[0] == pytest.approx(DENSE_MS)
    assert latency.speedup == pytest.approx(1.6, rel=0.05)


def test_the_plan_keeps_the_sensitivities(asked):
    plan = aiming.plan_by_measuring(aim(), config(speedup=1.6))
    assert [one.groups for one in plan.sensitivities] == [("stem",), ("cv1[0]", "cv1[1]"), ("cv2",)]
    assert plan.whole == WHOLE


def test_a_latency_out_of_reach_says_what_can_be_reached(asked):
    with pytest.raises(GateError, match=r"cannot be reached.*narrow as saves time the network takes \d\.\d+ ms"):
        aiming.plan_by_measuring(aim(least_share=0.5), config(speedup=50))


def test_a_latency_that_creeps_out_of_reach_ends_at_the_narrowest_widths(asked):
    with pytest.raises(GateError, match=r"cannot be reached.*narrow as saves time the network takes \d\.\d+ ms"):
        aiming.plan_by_measuring(aim(), PruneConfig(alignment=1, imgsz=64, samples=6, latency_ms=1.6, attempts=3))
    assert len(asked) == 3


def test_a_latency_above_the_dense_one_is_refused(asked):
    with pytest.raises(UsageError, match=r"takes \d+\.\d+ ms already"):
        aiming.plan_by_measuring(aim(), config(latency_ms=2 * DENSE_MS))
    assert asked == []


def test_a_plan_that_kills_all_positives_is_not_built(asked):
    def dead(widths):
        raise GateError("the plan kills all positives")

    with pytest.raises(GateError, match="kills all positives"):
        aiming.plan_by_measuring(aim(whole=dead), config(speedup=1.5))
    assert asked == []


def test_attempts_that_all_miss_end_with_the_nearest(asked):
    settings = PruneConfig(alignment=1, imgsz=64, samples=6, speedup=1.8, latency_tolerance=1e-9, attempts=2)
    with pytest.raises(GateError, match=r"none of 2 plans came within .* the nearest takes"):
        aiming.plan_by_measuring(aim(), settings)


def test_a_plan_by_a_model_measures_nothing_and_says_so(asked):
    plan = aiming.plan_by_forecast(aim(forecast=Blocks()), config(speedup=1.8))
    assert asked == []
    assert plan.latency.estimated
    assert plan.latency.measured_ms is None
    assert plan.latency.speedup == pytest.approx(1.8, rel=0.05)
    assert plan.latency.target == "cpu"

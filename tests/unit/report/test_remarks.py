"""Warnings and environments, told once for all the models that they concern."""

from synthetic_runs import MACHINE, measurement, row

from slimdeploy.records import Report
from slimdeploy.report.environment import environments, facts
from slimdeploy.report.remarks import warnings


def report(*timed):
    return Report(title="t", rows=tuple(row(one.artifact, latency=one) for one in timed))


def test_warnings_that_differ_in_figures_become_one_with_a_range():
    texts = {"dense": "calls vary by 7%; take --samples 100", "tuned": "calls vary by 12%; take --samples 100"}
    timed = [measurement(name, 0.1, warnings=(text,)) for name, text in texts.items()]
    assert warnings(report(*timed)) == [("calls vary by 7 to 12%; take --samples 100", ("dense", "tuned"))]


def test_different_warnings_stay_apart():
    timed = measurement("dense", 0.1, warnings=("noisy", "throttled"))
    assert warnings(report(timed)) == [("noisy", ("dense",)), ("throttled", ("dense",))]


def test_warnings_of_whole_frames_are_told_too():
    timed = measurement("dense", 0.1, warnings=("throttled",))
    whole = measurement("dense", 0.1, warnings=("throttled", "warm-up unstable"))
    rows = (row("dense", latency=timed, end_to_end=whole),)
    assert warnings(Report(title="t", rows=rows)) == [("throttled", ("dense",)), ("warm-up unstable", ("dense",))]


def test_what_all_models_share_is_told_once():
    timed = [measurement(name, 0.1, environment={**MACHINE, "load": load}) for name, load in (("a", 1), ("b", 2))]
    (names, shared), *alone = environments(report(*timed))
    assert names == ("a", "b")
    assert ("cpu model", "Synthetic CPU") in shared
    assert alone == [(("a",), (("load", "1"),)), (("b",), (("load", "2"),))]


def test_without_measurements_there_is_no_environment():
    assert environments(Report(title="t", rows=(row("dense"),))) == []


def test_nested_settings_become_flat_and_what_is_absent_is_left_out():
    found = facts({"versions": {"numpy": "2.0"}, "governor": None, "zones": [], "amp": True, "memory_mib": 15873.46})
    assert found == (("versions: numpy", "2.0"), ("amp", "yes"), ("memory mib", "15,873.5"))

"""The verb `gate`: figures beside bounds, and exit code 5."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from synthetic_runs import accuracy, difference, measurement, row, whole_rows, write_bench, write_recipe_run

from slimdeploy.cli import main
from slimdeploy.cli.gate import as_text
from slimdeploy.errors import UsageError
from slimdeploy.records import Report
from slimdeploy.report.gate import Bounds, Check, check, failure


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `slimdeploy gate` in this process; gives (exit code, stdout, stderr)."""

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["slimdeploy", "gate", *(str(one) for one in argv)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def bench(tmp_path):
    return write_bench(tmp_path / "bench", whole_rows())


def report(*rows):
    return Report(title="made up", rows=rows)


MET = ("--min-map", "0.5", "--max-p50-ms", "60", "--max-size-mb", "4", "--max-drop", "3")


def test_bounds_that_are_met_end_with_0_and_a_table(run, bench):
    code, stdout, stderr = run(bench, *MET)
    assert (code, stderr) == (0, "")
    assert [line.split()[-1] for line in stdout.splitlines()[1:]] == ["ok"] * 4
    assert {line.split()[0] for line in stdout.splitlines()[1:]} == {"tuned"}


def test_a_bound_that_is_not_met_ends_with_5_and_names_figure_value_and_bound(run, bench):
    code, stdout, stderr = run(bench, "--min-map", "0.7", "--max-size-mb", "4")
    assert code == 5
    assert [line.split()[-1] for line in stdout.splitlines()[1:]] == ["FAILED", "ok"]
    assert stderr == (
        "slimdeploy: 1 of 2 figures does not meet what was asked; wanted: tuned mAP50-95 at least 0.7, not 0.681\n"
    )


@pytest.mark.parametrize(
    ("bound", "names"),
    [
        pytest.param(("--min-map", "0.70"), ["mAP50-95"], id="mAP"),
        pytest.param(("--max-p50-ms", "20"), ["p50 ms"], id="latency"),
        pytest.param(("--max-size-mb", "3"), ["MB"], id="size"),
        pytest.param(("--max-drop", "2"), ["mAP50-95 drop in points"], id="drop against the first row"),
    ],
)
def test_each_bound_fails_on_its_own_figure(run, bench, bound, names):
    code, stdout, _ = run(bench, *bound, "--json")
    assert code == 5
    assert [one["figure"] for one in json.loads(stdout)["checks"] if not one["passed"]] == names


def test_json_prints_one_object_that_holds_the_error_too(run, bench):
    code, stdout, stderr = run(bench, "--max-drop", "2", "--json")
    document = json.loads(stdout)
    assert (code, document["passed"], document["error"], document["exit_code"]) == (5, False, "GateError", 5)
    assert document["checks"][0]["value"] == pytest.approx(2.1)
    assert stderr.startswith("slimdeploy: 1 of 1 figures does not meet")


def test_json_of_a_gate_that_passes_holds_no_error(run, bench):
    code, stdout, stderr = run(bench, *MET, "--json")
    assert (code, json.loads(stdout)["passed"], "error" in json.loads(stdout), stderr) == (0, True, False, "")


def test_rows_can_be_named(run, bench):
    code, stdout, _ = run(bench, "--min-map", "0.6", "--row", "dense", "--row", "pruned", "--json")
    assert code == 5
    assert [(one["row"], one["passed"]) for one in json.loads(stdout)["checks"]] == [("dense", True), ("pruned", False)]


def test_a_row_that_is_not_there_is_asked_wrongly(run, bench):
    code, _, stderr = run(bench, "--min-map", "0.6", "--row", "nope")
    assert code == 2
    assert "wanted: one of dense, sparse, pruned, tuned, tuned-fp16" in stderr


def test_a_recipes_folder_is_read_like_compare_reads_it(run, tmp_path):
    assert run(write_recipe_run(tmp_path / "run"), *MET)[0] == 0


@pytest.mark.parametrize(
    ("rows", "bound", "reason"),
    [
        pytest.param([row("a")], {"min_map": 0.1}, "its accuracy was not measured", id="no accuracy"),
        pytest.param([row("a")], {"max_p50_ms": 1.0}, "its latency was not measured", id="no latency"),
        pytest.param([row("a", size_bytes=0)], {"max_size_mb": 1.0}, "size was not recorded", id="no size"),
        pytest.param([row("a", scored=accuracy(0.5))], {"max_drop": 1.0}, "the first row itself", id="the first row"),
        pytest.param(
            [row("a"), row("b", scored=accuracy(0.5))], {"max_drop": 1.0}, "of the first row was not", id="no first"
        ),
    ],
)
def test_a_figure_that_was_not_measured_fails_with_a_sentence(rows, bound, reason):
    (found,) = check(report(*rows), Bounds(**bound))
    assert not found.passed
    assert reason in found.found
    assert reason in str(failure([found]))
    assert "not not" not in str(failure([found]))


def test_a_gain_of_map_meets_a_drop_of_nothing():
    rows = (row("a", scored=accuracy(0.50)), row("b", scored=accuracy(0.51)))
    assert failure(check(report(*rows), Bounds(max_drop=0.0))) is None


def test_a_drop_of_exactly_the_bound_passes():
    rows = (row("a", scored=accuracy(0.50)), row("b", scored=accuracy(0.49)))
    assert failure(check(report(*rows), Bounds(max_drop=1.0))) is None


@pytest.mark.parametrize(
    ("bound", "passed", "is_open"),
    [
        pytest.param(3.0, True, False, id="the whole interval meets it"),
        pytest.param(2.5, True, True, id="met, but the interval holds the bound"),
        pytest.param(1.5, False, True, id="not met, but the interval holds the bound"),
        pytest.param(1.0, False, False, id="the whole interval misses it"),
    ],
)
def test_a_drop_stands_with_its_interval(bound, passed, is_open):
    rows = (row("a", scored=accuracy(0.50)), row("b", scored=accuracy(0.48), difference=difference(-2.0)))
    (found,) = check(report(*rows), Bounds(max_drop=bound))
    assert found.found == "2 [1.30, 2.80]"
    assert (found.passed, found.open) == (passed, is_open)
    assert ("95 % interval" in as_text([found])) == is_open


def test_an_interval_of_nothing_has_no_sign():
    same = difference(0.0, low=0.0, high=0.0)
    (found,) = check(
        report(row("a", scored=accuracy(0.5)), row("b", scored=accuracy(0.5), difference=same)), Bounds(max_drop=1.0)
    )
    assert found.found == "0 [0.00, 0.00]"


def test_a_drop_without_kept_matches_has_no_interval():
    rows = (row("a", scored=accuracy(0.50)), row("b", scored=accuracy(0.48)))
    (found,) = check(report(*rows), Bounds(max_drop=1.0))
    assert (found.interval, found.open, found.found) == (None, False, "2")


def test_a_figure_is_shown_with_the_digits_that_tell_it_from_its_bound():
    close = Check(row="a", figure="p50 ms", value=30.000004, bound=30.0)
    assert not close.passed
    assert close.found == "30.000004"


def test_the_median_is_what_compare_shows():
    one = row("a", latency=dataclasses.replace(measurement("a", 1.0), samples_s=(0.01, 0.02, 0.03), rounds=(3,)))
    (found,) = check(report(one), Bounds(max_p50_ms=20.0))
    assert (found.value, found.passed) == (pytest.approx(20.0), True)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"min_map": 40.0}, id="points in place of a share"),
        pytest.param({"max_p50_ms": -1.0}, id="below 0"),
        pytest.param({"max_size_mb": float("nan")}, id="no number"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(asked):
    with pytest.raises(UsageError):
        Bounds(**asked)


def test_a_folder_without_results_ends_with_2(run, tmp_path):
    assert run(tmp_path, "--min-map", "0.1")[0] == 2

"""What accuracy rests on is read back, joined over runs, and refused where it is damaged."""

import json

import pytest
from synthetic_runs import evaluation, row, write_bench, write_evaluation

from slimdeploy.errors import UsageError
from slimdeploy.report.build import report_from
from slimdeploy.report.document import as_document
from slimdeploy.report.evaluation import read_evaluation


def run(folder, *names, **changes):
    write_bench(folder, [row(name) for name in names])
    write_evaluation(folder, evaluation(names, **changes))
    return folder


def test_an_evaluation_comes_back_as_it_was(tmp_path):
    found = evaluation(["dense", "tuned"], classes=("car", "van"))
    write_evaluation(write_bench(tmp_path / "one", [row("dense")]), found)
    assert read_evaluation(tmp_path / "one") == found


def test_a_run_of_an_older_version_has_none(tmp_path):
    assert report_from([write_bench(tmp_path / "one", [row("dense")])]).evaluation is None


def test_models_of_several_runs_keep_apart_by_their_names_in_the_report(tmp_path):
    one, two = run(tmp_path / "one", "dense", "tuned", scenes=False), run(tmp_path / "two", "tuned")
    found = report_from([one, two]).evaluation
    assert set(found.precision) == set(found.confusion) == {"one: dense", "one: tuned", "two: tuned"}
    assert found.judged == "two: tuned"
    assert set(found.scenes[0].seen) == {"two: tuned"}


def test_a_run_without_one_takes_nothing_from_the_others(tmp_path):
    old, new = write_bench(tmp_path / "old", [row("dense")]), run(tmp_path / "new", "tuned")
    assert set(report_from([old, new]).evaluation.precision) == {"tuned"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda plain: {**plain, "precision": {"dense": [1, 2]}}, id="a short curve"),
        pytest.param(lambda plain: {**plain, "confusion": {"dense": [[1]]}}, id="a small matrix"),
        pytest.param(lambda plain: {**plain, "scenes": [{}]}, id="an empty scene"),
        pytest.param(lambda plain: {**plain, "classes": 3}, id="no classes"),
        pytest.param(lambda plain: {key: plain[key] for key in ("schema", "classes")}, id="a missing field"),
    ],
)
def test_a_damaged_evaluation_is_one_clear_error(tmp_path, change):
    path = run(tmp_path / "one", "dense") / "evaluation.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(UsageError, match=r"evaluation\.json is damaged"):
        report_from([tmp_path / "one"])


def test_a_newer_schema_is_refused(tmp_path):
    path = run(tmp_path / "one", "dense") / "evaluation.json"
    path.write_text(json.dumps({"schema": 99}), encoding="utf-8")
    with pytest.raises(UsageError, match="schema 99"):
        report_from([tmp_path / "one"])


def test_json_leaves_the_pictures_to_the_page(tmp_path):
    document = as_document(report_from([run(tmp_path / "one", "dense")]))
    assert document["evaluation"]["scenes"][0]["jpeg"] == ""
    assert document["evaluation"]["scenes"][0]["seen"]["dense"]["missed"]

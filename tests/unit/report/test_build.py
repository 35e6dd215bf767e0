"""Bringing runs together, and refusing what cannot be compared."""

import dataclasses
import json

import pytest
from synthetic_runs import MACHINE, accuracy, measurement, row, whole_rows, write_bench, write_recipe_run, write_stage

from slimdeploy.errors import UsageError
from slimdeploy.report.build import APART_NOTE, RENDERED_NOTE, report_from

FAST_MACHINE = {**MACHINE, "cpu_model": "Another CPU"}


def test_a_bench_folder_gives_its_rows_title_and_notes(tmp_path):
    rows = whole_rows()
    report = report_from([write_bench(tmp_path / "bench", rows, title="Cars", notes=["A remark."])])
    assert report.rows == tuple(rows)
    assert report.title == "Cars"
    assert report.notes == ("A remark.",)


def test_a_recipe_folder_gives_widths_and_lineage_in_the_order_of_the_stages(tmp_path):
    report = report_from([write_recipe_run(tmp_path / "run")])
    assert [one["folder"] for one in report.lineage] == [
        "train", "sparsify", "prune", "finetune", "export/dense", "export/tuned", "bench",
    ]  # fmt: skip
    assert report.widths[1] == ("model.1.conv", 16, 8)


def test_outcomes_that_a_recipe_set_aside_are_no_part_of_the_lineage(tmp_path):
    report = report_from([write_recipe_run(tmp_path / "run")])
    assert not [one for one in report.lineage if "previous" in one["folder"]]


def test_a_plan_to_a_latency_is_told_with_what_it_rests_on_and_what_the_network_hangs_on(tmp_path):
    run = write_recipe_run(tmp_path / "run")
    latency = {"target": "orin-nx-16gb", "asked_ms": 2.0, "speedup": 2.01, "estimated": True, "source": "a model"}
    tried = {"groups": ["model.22.cv3.0.1"], "width": 64, "tried": 32, "damage": 0.6, "positives": [258, 104]}
    write_stage(run / "prune", "prune", {"latency": latency, "sensitivities": [tried]})
    notes = " ".join(report_from([run]).notes)
    assert "2.01 times as fast, estimated, not measured (a model)" in notes
    assert "model.22.cv3.0.1 (104 of 258 detections left)" in notes


def test_how_well_weights_could_be_fitted_after_the_cut_is_told(tmp_path):
    run = write_recipe_run(tmp_path / "run")
    fitted = [{"layer": "model.1", "before": 0.5, "after": 0.1}, {"layer": "model.2", "before": 0.3, "after": 0.02}]
    write_stage(run / "prune", "prune", {"fit": {"images": 128, "layers": fitted}})
    assert "weights of 2 layers were fitted to what the whole network gave on 128" in " ".join(report_from([run]).notes)
    assert "missed 40.0% before and 6.0% after" in " ".join(report_from([run]).notes)


def test_rendered_scenes_are_noted(tmp_path):
    report = report_from([write_bench(tmp_path / "bench", whole_rows(rendered=True))])
    assert RENDERED_NOTE in report.notes


def test_rows_of_several_runs_that_share_a_name_carry_their_run(tmp_path):
    one = write_bench(tmp_path / "one", [row("dense"), row("tuned")])
    two = write_bench(tmp_path / "two", [row("tuned")])
    report = report_from([one, two])
    assert [row.name for row in report.rows] == ["one: dense", "one: tuned", "two: tuned"]
    assert APART_NOTE in report.notes


def test_rows_of_several_runs_with_names_of_their_own_keep_them(tmp_path):
    report = report_from([write_bench(tmp_path / name, [row(name)]) for name in ("dense", "tuned")])
    assert [row.name for row in report.rows] == ["dense", "tuned"]


def test_widths_of_several_plans_carry_their_run(tmp_path):
    report = report_from([write_recipe_run(tmp_path / name) for name in ("one", "two")])
    assert {layer.split(": ")[0] for layer, _, _ in report.widths} == {"one", "two"}


def other_machine():
    return row("tuned", latency=measurement("tuned", 0.04, environment=FAST_MACHINE))


def test_rows_of_different_machines_are_refused(tmp_path):
    folder = write_bench(tmp_path / "bench", [row("dense", latency=measurement("dense", 0.09)), other_machine()])
    with pytest.raises(UsageError, match=r"different machines: Synthetic CPU; Another CPU.*--across-machines"):
        report_from([folder])


def test_rows_of_different_machines_can_be_asked_for_and_are_noted(tmp_path):
    folder = write_bench(tmp_path / "bench", [row("dense", latency=measurement("dense", 0.09)), other_machine()])
    report = report_from([folder], across_machines=True)
    assert any("different machines (Synthetic CPU; Another CPU)" in note for note in report.notes)


def test_rows_of_different_data_sets_are_refused(tmp_path):
    rows = [row("dense", scored=accuracy(0.7)), row("tuned", scored=accuracy(0.7, data="other, val"))]
    with pytest.raises(UsageError, match="different data sets: synthetic, val; other, val"):
        report_from([write_bench(tmp_path / "bench", rows)])


def test_rows_of_different_protocols_are_refused(tmp_path):
    rows = [row("dense", scored=accuracy(0.7)), row("tuned", scored=accuracy(0.7, metric="VisDrone's"))]
    with pytest.raises(UsageError, match="different protocols: COCO metric; VisDrone's"):
        report_from([write_bench(tmp_path / "bench", rows)])


def test_other_rules_than_cocos_are_noted(tmp_path):
    folder = write_bench(tmp_path / "bench", [row("dense", scored=accuracy(0.7, metric="VisDrone's protocol"))])
    assert "Accuracy is by VisDrone's protocol" in " ".join(report_from([folder]).notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"batch": 4}, "different batch sizes: 1, 4", id="batch"),
        pytest.param({"threads": 1}, "different numbers of threads: 1, 2", id="threads"),
        pytest.param({"scope": "end to end"}, "different scopes: end to end, inference", id="scope"),
        pytest.param({"environment": {**MACHINE, "governor": "x"}}, "different settings or versions", id="governor"),
    ],
)
def test_rows_timed_in_another_way_are_noted(tmp_path, changes, said):
    timed = [measurement("dense", 0.09), measurement("tuned", 0.04, **changes)]
    folder = write_bench(tmp_path / "bench", [row(one.artifact, latency=one) for one in timed])
    assert said in " ".join(report_from([folder]).notes)


def test_too_few_rounds_are_noted(tmp_path):
    rows = [row(name, latency=measurement(name, 0.1, rounds=2)) for name in ("dense", "tuned")]
    assert "Fewer than 6 rounds" in " ".join(report_from([write_bench(tmp_path / "bench", rows)]).notes)


def test_no_runs_are_refused():
    with pytest.raises(UsageError, match="no runs to compare"):
        report_from([])


def test_a_run_that_is_named_twice_is_refused(tmp_path):
    folder = write_bench(tmp_path / "bench", whole_rows())
    with pytest.raises(UsageError, match="named twice"):
        report_from([folder, tmp_path / "." / "bench"])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder .*nothing"):
        report_from([tmp_path / "nothing"])


def test_a_folder_without_bench_results_says_how_to_make_them(tmp_path):
    with pytest.raises(UsageError, match=r"holds no bench\.json.*slimdeploy bench"):
        report_from([write_stage(tmp_path / "prune", "prune", {})])


def damaged(results):
    del results["rows"][0]["parameters"]
    return results


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda results: {**results, "schema": 99}, "schema 99", id="a newer schema"),
        pytest.param(lambda results: {**results, "rows": []}, "holds no rows", id="no rows"),
        pytest.param(lambda results: {**results, "rows": "none"}, "holds no rows", id="rows that are no list"),
        pytest.param(lambda results: {**results, "rows": [3]}, "damaged", id="a row that is no object"),
        pytest.param(damaged, "damaged.*parameters", id="a missing field"),
    ],
)
def test_results_that_cannot_be_read_are_one_clear_error(tmp_path, change, said):
    folder = write_bench(tmp_path / "bench", whole_rows())
    path = folder / "bench.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        report_from([folder])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("parameters", "many", id="a word for a count"),
        pytest.param("parameters", True, id="a truth value for a count"),
        pytest.param("name", None, id="no name"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(tmp_path, field, value):
    folder = write_bench(tmp_path / "bench", [dataclasses.replace(row("dense"), **{field: value})])
    with pytest.raises(UsageError, match=f"damaged: {field} is {value!r}"):
        report_from([folder])


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    folder = write_bench(tmp_path / "bench", [row("dense", scored=accuracy(float("nan")))])
    with pytest.raises(UsageError, match="map50_95 is nan"):
        report_from([folder])


def test_rounds_that_do_not_add_up_to_the_samples_are_refused(tmp_path):
    latency = dataclasses.replace(measurement("dense", 0.09), rounds=(3, 4))
    with pytest.raises(UsageError, match=r"damaged.*rounds"):
        report_from([write_bench(tmp_path / "bench", [row("dense", latency=latency)])])


def test_a_truncated_results_file_is_one_clear_error(tmp_path):
    folder = write_bench(tmp_path / "bench", whole_rows())
    text = (folder / "bench.json").read_text(encoding="utf-8")
    (folder / "bench.json").write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(UsageError, match=r"bench\.json is not a results file"):
        report_from([folder])


def test_a_damaged_plan_is_one_clear_error(tmp_path):
    folder = write_recipe_run(tmp_path / "run")
    (folder / "prune" / "plan.json").write_text('{"schema": 1, "groups": [{}]}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"plan\.json is damaged.*prune again"):
        report_from([folder])


def test_a_recipes_title_heads_its_report(tmp_path):
    run = write_recipe_run(tmp_path / "run")
    (run / "recipe.json").write_text('{"schema": 1, "title": "cars seen from above"}', encoding="utf-8")
    assert report_from([run]).title == "cars seen from above"

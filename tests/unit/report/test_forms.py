"""Terminal text, Markdown and JSON of the same report."""

import dataclasses
import importlib.resources
import json

import pytest
from synthetic_runs import accuracy, measurement, power, row, whole_rows, write_recipe_run

from slimdeploy.records import Interval, Report
from slimdeploy.report.build import report_from
from slimdeploy.report.document import as_document
from slimdeploy.report.html import as_html
from slimdeploy.report.markdown import as_markdown
from slimdeploy.report.terminal import as_text

HOSTILE = "<b>|`$x$`*[a](b)\x1b[31m"


@pytest.fixture
def whole(tmp_path):
    return report_from([write_recipe_run(tmp_path / "run")])


def test_terminal_text_fits_100_columns_and_shows_every_model_in_each_table(whole):
    text = as_text(whole)
    assert max(map(len, text.splitlines())) <= 100
    for name in ("dense", "sparse", "pruned", "tuned-fp16"):
        assert sum(line.startswith(name) for line in text.splitlines()) == 3


def test_terminal_text_shortens_long_names_and_keeps_the_figures():
    name = "an exceedingly long name of a model that goes on and on and never ends " * 2
    text = as_text(Report(title="t", rows=(row(name, file=f"{name}.onnx", scored=accuracy(0.7)),)))
    assert max(map(len, text.splitlines())) <= 100
    assert "0.700" in text.split("precision")[1]


def test_terminal_text_holds_no_control_characters():
    text = as_text(Report(title=HOSTILE, rows=(row(HOSTILE),), notes=(HOSTILE,)))
    assert "\x1b" not in text


def test_terminal_text_shows_notes_and_warnings(whole):
    timed = dataclasses.replace(whole.rows[0].latency, warnings=("noisy; close other programs",))
    rows = (dataclasses.replace(whole.rows[0], latency=timed), *whole.rows[1:])
    text = as_text(dataclasses.replace(whole, rows=rows, notes=("A remark.",)))
    assert "note: A remark." in text
    assert "warning: dense: noisy; close other programs" in text


def test_markdown_holds_one_row_a_model_and_as_many_cells_as_headings(whole):
    lines = [line for line in as_markdown(whole).split("\n\n")[2].splitlines()]
    assert len(lines) == 2 + len(whole.rows)
    assert len({line.count("|") for line in lines}) == 1


def test_markdown_escapes_what_users_named():
    text = as_markdown(Report(title=HOSTILE, rows=(row(HOSTILE),)))
    assert "<b>" not in text
    assert r"\<b\>\|\`$x$\`\*\[a\](b)\\x1b\[31m" in text


def hostile_report():
    """A report in which every text that comes from a file or a user tries to steer a terminal or a page."""
    signs = "a\x1b[31m\0\u202e\u2028\x9bb\nc"
    timed = measurement(signs, 0.1, environment={signs: signs, "versions": {signs: [signs]}}, warnings=(signs,))
    scored = accuracy(0.5, per_class={signs: 0.5, f"{signs}2": 0.4}, data=signs)
    rows = (
        dataclasses.replace(row(signs, latency=timed, scored=scored), file=signs, precision=signs),
        dataclasses.replace(row(f"{signs}2", latency=timed, scored=scored), file=signs),
    )
    stage = {
        "folder": signs, "run": signs, "stage": signs, "seconds": 1.0, "versions": {signs: signs},
        "inputs": {signs: {"name": signs, "sha256": signs}}, "outputs": {signs: signs}, "config": {signs: [signs]},
        "results": {signs: signs},
    }  # fmt: skip
    return Report(title=signs, rows=rows, widths=((signs, 2, 1),), lineage=(stage,), notes=(signs,))


@pytest.mark.parametrize("form", [as_text, as_markdown, as_html], ids=["terminal", "Markdown", "page"])
def test_no_form_of_a_report_holds_a_control_character(form):
    shown = form(hostile_report())
    assert {sign for sign in shown if not sign.isprintable()} <= {"\n", "\u00a0"}
    assert r"a\x1b[31m" in shown.replace(r"\\", "\\").replace(r"\[", "[")


def test_markdown_folds_widths_environment_and_lineage_away(whole):
    text = as_markdown(whole)
    for title in ("Widths before and after", "Environment", "Lineage"):
        assert f"<summary>{title}</summary>" in text
    assert "| finetune | finetune | weights aaaaaaaaaaaa | finetune.pt bbbbbbbbbbbb | 12 |" in text


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(whole_rows(), id="everything measured"),
        pytest.param([row("dense"), row("tuned")], id="nothing measured"),
        pytest.param([row("dense", latency=measurement("dense", 0.1))], id="one model"),
        pytest.param(
            [row("dense"), row("tuned", difference=Interval(points=1, low=0, high=2, images=4, resamples=9))],
            id="a difference",
        ),
    ],
)
def test_json_follows_the_published_schema(tmp_path, rows):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the extra dev")
    schema = json.loads(
        importlib.resources.files("slimdeploy.report").joinpath("report.schema.json").read_text("utf-8")
    )
    document = json.loads(json.dumps(as_document(report_from([write_recipe_run(tmp_path / "run", rows)]))))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def test_markdown_folds_what_else_was_measured_away():
    text = as_markdown(Report(title="t", rows=(row("dense", power=(power(),)),)))
    assert "<summary>Energy for each image</summary>" in text
    assert r"| dense | jetson | VDD\_IN | 0.0500 | 9.00 | 3.00 |" in text


def differing(**changes):
    found = {"points": -2.1, "low": -2.9, "high": -1.3, "images": 590, "resamples": 1000, **changes}
    return (
        row("dense", scored=accuracy(0.702)),
        row("tuned", scored=accuracy(0.681), difference=Interval(**found)),
    )


def test_a_difference_of_map_stands_in_every_form_with_its_interval():
    report = Report(title="t", rows=differing())
    assert "-2.1 [-2.9, -1.3]" in as_text(report)
    assert r"-2.1 \[-2.9, -1.3\]" in as_markdown(report)
    assert as_document(report)["table"][1]["difference"] == {
        "points": -2.1, "low": -2.9, "high": -1.3, "images": 590, "resamples": 1000, "shown": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"points": 0.1, "low": -0.4, "high": 0.6}, "no difference shown [-0.4, +0.6]", id="it holds 0"),
        pytest.param({"images": 8}, "too few images [-2.9, -1.3]", id="8 images"),
        pytest.param({"low": -2.9, "high": -0.004}, "-2.100 [-2.900, -0.004]", id="an end close to 0"),
    ],
)
def test_a_difference_says_whether_it_is_shown(changes, said):
    assert said in as_text(Report(title="t", rows=differing(**changes)))


def test_json_gives_null_for_what_was_not_measured():
    (figures,) = as_document(Report(title="t", rows=(row("dense"),)))["table"]
    assert figures["p50_ms"] is None
    assert figures["map50"] is None
    assert figures["speedup"] is None


def test_json_keeps_raw_samples_and_says_whether_a_difference_is_shown(whole):
    document = as_document(whole)
    assert len(document["rows"][0]["latency"]["samples_s"]) == 200
    assert document["table"][3]["speedup"]["shown"] is True
    assert document["compared"] == ["dense", "tuned"]

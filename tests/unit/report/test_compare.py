"""The verb `compare`."""

import json
import sys

import pytest
from synthetic_runs import row, whole_rows, write_bench
from typer.testing import CliRunner

from slimdeploy.cli import compare
from slimdeploy.errors import MissingDependency, OutputExists, UsageError


@pytest.fixture
def run():
    import typer

    app = typer.Typer()
    app.command()(compare.command)
    return lambda *args: CliRunner().invoke(app, [str(one) for one in args], catch_exceptions=True)


@pytest.fixture
def bench(tmp_path):
    return write_bench(tmp_path / "bench", whole_rows())


def test_without_options_the_table_is_printed_and_nothing_is_written(run, bench):
    before = sorted(bench.parent.rglob("*"))
    result = run(bench)
    assert result.exit_code == 0
    assert "tuned against dense: 2.1" in result.output
    assert sorted(bench.parent.rglob("*")) == before


def test_json_prints_one_object(run, bench):
    document = json.loads(run(bench, "--json").stdout)
    assert document["compared"] == ["dense", "tuned"]
    assert document["written"] == []


@pytest.mark.parametrize("option", ["--html", "--out"])
def test_an_output_that_exists_is_refused_and_stays(run, bench, tmp_path, option):
    place = tmp_path / "report.html"
    place.write_text("mine", encoding="utf-8")
    result = run(bench, option, place)
    assert isinstance(result.exception, OutputExists)
    assert place.read_text(encoding="utf-8") == "mine"


def test_a_folder_without_results_writes_nothing(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty", "--out", tmp_path / "out")
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "out").exists()


def test_several_runs_can_be_named(run, bench, tmp_path):
    other = write_bench(tmp_path / "other", [row("small")])
    assert "small against dense" not in run(bench, other).output  # the tuned one keeps the headline
    assert "\nsmall " in run(bench, other).output


@pytest.mark.parametrize("option", ["--html", "--out"])
def test_a_page_without_the_extra_names_the_pip_line_and_leaves_nothing(run, bench, tmp_path, monkeypatch, option):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run(bench, option, tmp_path / "page")
    assert isinstance(result.exception, MissingDependency)
    assert "slimdeploy[report]" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench"]


@pytest.mark.parametrize("option", ["--html", "--out"])
def test_an_output_that_appears_meanwhile_is_refused_and_stays(run, bench, tmp_path, monkeypatch, option):
    from slimdeploy.report import html, write

    place = tmp_path / "report.html"

    def written_meanwhile(report):
        place.write_text("theirs", encoding="utf-8")
        return "mine"

    for module in (html, write):
        monkeypatch.setattr(module, "as_html", written_meanwhile)
    monkeypatch.setattr(write, "gammas_png", lambda _report: None)
    result = run(bench, option, place)
    assert isinstance(result.exception, OutputExists)
    assert place.read_text(encoding="utf-8") == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench", "report.html"]

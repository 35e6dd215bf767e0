"""`slimdeploy targets` lists the targets and shows all facts of one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from slimdeploy.cli import app
from slimdeploy.records import as_json
from slimdeploy.targets import list_targets, load_target


def run(*argv):
    ended = CliRunner().invoke(app, ["targets", *argv])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_the_table_has_a_row_for_every_target():
    first = [row.split(" ")[0] for row in run().splitlines()]
    assert [name for name in first if name in {t.name for t in list_targets()}] == [t.name for t in list_targets()]


def test_the_table_tells_precisions_widths_and_opset():
    (row,) = [row for row in run().splitlines() if row.startswith("orin-nano-8gb")]
    assert row.split()[-8:-3] == ["fp32/fp16/int8", "8/8/32", "17", "8", "GB"]


def test_one_target_is_shown_with_every_fact_and_note():
    shown = run("agx-orin-64gb")
    target = load_target("agx-orin-64gb")
    assert [note for note in target.notes if note not in shown] == []
    assert "204.8 GB/s" in shown
    assert "fp32 8, fp16 8, int8 32" in shown


def test_a_fact_that_is_not_known_is_a_dash():
    assert "bandwidth_gbs  -" in run("tx2")


@pytest.mark.parametrize("name", ["cpu", "jetson", "thor-t4000"])
def test_json_of_one_holds_the_whole_record(name):
    assert json.loads(run(name, "--json")) == json.loads(json.dumps(as_json(load_target(name))))


def test_json_of_all_holds_every_record():
    assert [one["name"] for one in json.loads(run("--json"))["targets"]] == [one.name for one in list_targets()]

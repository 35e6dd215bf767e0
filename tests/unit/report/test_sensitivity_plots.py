"""The plot of sensitivities: the strongest groups on top, with what still scores beside them."""

import dataclasses
from xml.etree import ElementTree

import pytest
from synthetic_runs import whole_rows, write_bench

from slimdeploy.report.build import report_from
from slimdeploy.report.sensitivity_plots import SHOWN, sensitivity_plots


def tried(name, damage, *more):
    return {"groups": [name, *more], "width": 64, "tried": 32, "damage": damage, "positives": [1258, 104]}


@pytest.fixture
def report(tmp_path):
    def make(*records):
        return dataclasses.replace(report_from([write_bench(tmp_path / "bench", whole_rows())]), lineage=records)

    return make


def texts(plot):
    return [element.text for element in ElementTree.fromstring(plot.svg).iter("text")]


def test_groups_are_drawn_by_their_damage_with_what_still_scores(report):
    sensitivities = [tried("model.2.cv1[0]", 0.1, "model.2.cv1[1]"), tried("model.22.cv3.0.1", 0.9)]
    (plot,) = sensitivity_plots(report({"stage": "prune", "results": {"sensitivities": sensitivities}}))
    shown = texts(plot)
    assert {"model.2.cv1[0] and 1 more (64 to 32)", "model.22.cv3.0.1 (64 to 32)"} <= set(shown)
    assert shown.count("104 of 1,258") == 2
    assert plot.title == "Sensitivity"


def test_of_many_groups_the_strongest_are_drawn_and_the_title_says_so(report):
    sensitivities = [tried(f"model.{i}", i / 100) for i in range(SHOWN + 5)]
    (plot,) = sensitivity_plots(report({"stage": "prune", "results": {"sensitivities": sensitivities}}))
    assert plot.title == f"Sensitivity, {SHOWN} of {SHOWN + 5} groups"
    assert "model.4 (64 to 32)" not in texts(plot)
    assert "model.5 (64 to 32)" in texts(plot)


def test_each_run_has_its_own_plot_and_those_without_sensitivities_none(report):
    one = {"stage": "prune", "run": "two times", "results": {"sensitivities": [tried("model.1", 0.0)]}}
    drawn = sensitivity_plots(report(one, {**one, "run": "three"}, {"stage": "prune", "results": {}}, {"stage": "val"}))
    assert [(plot.name, plot.title) for plot in drawn] == [
        ("sensitivities-0", "Sensitivity (two times)"),
        ("sensitivities-1", "Sensitivity (three)"),
    ]

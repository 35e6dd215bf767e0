"""The page of a search shows every trial, the front, and the command that makes each again."""

from __future__ import annotations

import re

import pytest

from slimdeploy.recipes import read_recipe
from slimdeploy.search.page import as_html, command
from slimdeploy.search.plots import search_plots
from slimdeploy.search.study import Record
from slimdeploy.search.trial import DONE
from slimdeploy.search.view import front


@pytest.fixture
def found(ended):
    """A search of which one trial failed, its folder, and its page."""
    folder, view = ended
    return view, folder, (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_anywhere(found):
    _, _, page = found
    assert "default-src 'none'" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []


def test_every_plot_is_on_the_page(found):
    _, _, page = found
    names = re.findall(r'<figure id="([\w-]+)"', page)
    assert names == ["front-p50-ms", "front-size-mb", "parallel", "importance"]
    assert page.count("<svg") == 4


def test_every_trial_that_is_done_has_the_command_that_makes_it_again_and_its_recipe(found):
    view, folder, page = found
    for one in view.having(DONE):
        told = command(folder, one)
        assert told in page
        recipe = read_recipe(folder / "recipes" / f"{one.number:04d}.toml")
        assert recipe.finetune.lr0 == one.values["finetune.lr0"]
        assert f"recipes/{one.number:04d}.toml" in told


def test_what_failed_is_told_with_its_reason(found):
    _, _, page = found
    assert "trial 2 failed: KeyError" in page


def test_a_name_with_markup_in_it_stays_text(found):
    import dataclasses

    view, folder, _ = found
    spec = dataclasses.replace(view.spec, title="<script>alert(1)</script>")
    page = as_html(dataclasses.replace(view, spec=spec), {}, folder)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_search_without_trials_has_no_plots(found):
    import dataclasses

    assert search_plots(dataclasses.replace(found[0], records=()), {}) == []


def record(number: int, score: float, p50_ms: float, *, met: bool = True) -> Record:
    figures = {"map50_95": score, "p50_ms": p50_ms}
    return Record(number=number, values={}, state=DONE, batch=0, figures=figures, met=met)


def test_the_front_holds_what_nothing_beats_and_no_trial_that_misses_a_constraint():
    trials = [
        record(0, 0.5, 10), record(1, 0.6, 12), record(2, 0.5, 11), record(3, 0.9, 1, met=False), record(4, 0.6, 12),
    ]  # fmt: skip
    assert [one.number for one in front(trials, ("map50_95", "p50_ms"))] == [0, 1, 4]

"""A search on one machine: what is shared is made once, and what fails is told and loses nothing."""

from __future__ import annotations

import pytest
from search_stand_in import made, order

from slimdeploy._cores import usable_cores
from slimdeploy.errors import OutputExists, StageFailed
from slimdeploy.search import run
from slimdeploy.search.study import OPEN
from slimdeploy.search.trial import DONE, FAILED


def figures(view):
    return [(one.number, dict(one.values), dict(one.figures)) for one in view.records]


def keys_made():
    return [one["key"] for one in made()]


def test_every_trial_is_done_and_measured(search):
    view = search(trials=6)
    assert [one.state for one in view.records] == [DONE] * 6
    assert all(set(one.figures) == {"map50_95", "p50_ms", "size_mb"} for one in view.records)
    assert view.front != []


def test_stages_that_trials_share_are_made_once(search):
    search(trials=6)
    assert len(keys_made()) == len(set(keys_made()))
    assert [one["stage"] for one in made()].count("train") == 2  # one for each input size


def test_the_same_seed_gives_the_same_trials_and_figures_however_many_run_side_by_side(search):
    assert figures(search("one", trials=10)) == figures(search("three", trials=10, slots=3))


def test_two_trials_that_want_a_stage_at_the_same_time_wait_for_one(search, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.5")
    search(trials=4, slots=4)
    assert len(keys_made()) == len(set(keys_made()))


def test_nothing_is_trained_while_something_is_measured(search, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.3")
    search(trials=6, slots=3)
    done = made()
    measured = [one for one in done if one["stage"] == "bench"]
    for one in measured:
        assert [o for o in done if o is not one and o["began"] < one["ended"] and one["began"] < o["ended"]] == []


def test_a_process_that_is_killed_has_its_trial_walked_again_and_no_whole_stage_is_made_twice(search, log):
    fault = order("kill", "bench", 2)
    view = search(trials=4)
    assert not fault.exists()
    assert [one.state for one in view.records] == [DONE] * 4
    assert len(keys_made()) == len(set(keys_made()))


@pytest.mark.parametrize(
    ("fault", "stage", "why"),
    [
        pytest.param("deadly", "finetune", "signal 9", id="killed again and again"),
        pytest.param("memory", "finetune", "memory ran out", id="out of memory"),
        pytest.param("nan", "bench", "map50_95 is nan", id="a score that is no number"),
        pytest.param("bug", "train", "KeyError", id="a bug"),
    ],
)
def test_a_trial_that_fails_says_why_and_the_others_go_on(search, log, fault, stage, why):
    order(fault, stage, 1)
    view = search(trials=4, slots=1)
    assert [one.state for one in view.records] == [DONE, FAILED, DONE, DONE]
    assert why in view.records[1].why


def test_a_trial_that_hangs_is_ended_at_its_limit(search, log):
    order("hang", "finetune", 1)
    view = search(trials=3, sections="[trial]\nminutes = 0.05")
    assert [one.state for one in view.records] == [DONE, FAILED, DONE]
    assert "longer than 0.05 minutes, and was ended in finetune" in view.records[1].why


def test_a_full_disk_stops_the_search_and_leaves_the_trial_open(search, go_on, log):
    fault = order("full", "finetune", 1)
    with pytest.raises(StageFailed, match=r"disk is full.*--resume"):
        search(trials=3)
    fault.unlink()
    view = go_on()
    assert [one.state for one in view.records] == [DONE] * 3
    assert len(keys_made()) == len(set(keys_made()))


def test_trainings_use_the_cores_of_a_trial_and_measuring_all(search):
    search(trials=2, sections="[trial]\ncpus = 1")
    assert {one["cores"] for one in made() if one["stage"] != "bench"} == {1}
    assert {one["cores"] for one in made() if one["stage"] == "bench"} == {usable_cores()}


def test_a_second_search_in_the_same_folder_is_refused(search, tmp_path):
    search(trials=2)
    with pytest.raises(OutputExists, match=r"holds a search already.*--resume"):
        search(trials=2)


def test_the_status_of_a_search_tells_what_is_done(search, tmp_path):
    view = search(trials=3)
    assert figures(run.status(tmp_path / "out")) == figures(view)
    assert run.status(tmp_path / "out").having(OPEN) == []

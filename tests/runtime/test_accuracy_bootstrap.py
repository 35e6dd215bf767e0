"""Differences of mAP over other choices of images, against COCO's scorer on those very images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from crowds import crowds, detections, truths

from slimdeploy.accuracy import coco
from slimdeploy.accuracy.average_precision import map50_95, precision_at_recalls
from slimdeploy.accuracy.bootstrap import paired_bootstrap, resampled
from slimdeploy.accuracy.matches import IOUS, Keeping, load, match_all, save
from slimdeploy.errors import UsageError

BOX, FAR = [10, 10, 30, 30], [60, 60, 90, 90]


@pytest.fixture(scope="module")
def crowd():
    return crowds(seed=1, images=30)


@pytest.fixture(scope="module")
def matches(crowd):
    return match_all(*crowd, 300)


@pytest.fixture(scope="module")
def worse(crowd):
    """The same boxes, each a little off."""
    found = [dataclasses.replace(one, xyxy=one.xyxy + np.float32(1.5)) for one in crowd[0]]
    return match_all(found, crowd[1], 300)


def test_on_all_images_the_figure_is_the_scorers(crowd, matches):
    figure = map50_95(matches, np.ones(30, dtype=np.int64))
    assert 0.1 < figure < 0.9
    assert figure == pytest.approx(coco.score(*crowd, 300).map50_95, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_on_a_choice_of_images_the_figure_is_the_scorers_on_copies_of_them(crowd, matches, seed):
    chosen = np.random.default_rng(seed).integers(0, 30, 30)
    copies = [[part[i] for i in chosen] for part in crowd]
    weights = np.bincount(chosen, minlength=30)
    assert map50_95(matches, weights) == pytest.approx(coco.score(*copies, 300).map50_95, abs=1e-12)


def test_the_mean_of_the_precision_over_the_recalls_is_map50(crowd, matches):
    assert precision_at_recalls(matches).mean() == pytest.approx(coco.score(*crowd, 300).map50, abs=1e-12)


def test_a_choice_without_a_class_leaves_it_out_of_the_mean():
    held = [truths([BOX], [0]), truths([BOX], [1])]
    found = [detections([BOX], [0], [0.9]), detections([FAR], [1], [0.8])]
    matches = match_all(found, held, 300)
    assert map50_95(matches, np.array([2, 0])) == pytest.approx(1)
    assert map50_95(matches, np.array([1, 1])) == pytest.approx(0.5)


def test_only_as_many_boxes_of_a_class_count_as_are_asked_for(crowd):
    few = match_all(*crowd, 5)
    assert map50_95(few, np.ones(30, dtype=np.int64)) == pytest.approx(coco.score(*crowd, 5).map50_95, abs=1e-12)


def test_a_model_does_not_differ_from_itself(matches):
    found = paired_bootstrap(matches, matches, resamples=50)
    assert (found.points, found.low, found.high) == (0, 0, 0)
    assert not found.shown


def test_boxes_that_are_off_are_shown_to_be_worse(matches, worse):
    found = paired_bootstrap(matches, worse, resamples=200)
    assert found.low < found.points < found.high < 0
    assert found.shown
    assert (found.images, found.resamples) == (30, 200)


def test_the_interval_turns_round_with_the_models(matches, worse):
    there, back = paired_bootstrap(matches, worse, resamples=200), paired_bootstrap(worse, matches, resamples=200)
    assert (back.points, back.low, back.high) == pytest.approx((-there.points, -there.high, -there.low))


def test_pairing_makes_the_interval_narrower_than_two_models_resampled_apart(matches, worse):
    paired = paired_bootstrap(matches, worse, resamples=400)
    apart = 100 * (resampled(worse, resamples=400, seed=1) - resampled(matches, resamples=400, seed=2))
    low, high = np.percentile(apart, [2.5, 97.5])
    assert paired.high - paired.low < 0.85 * (high - low)


def test_the_same_seed_gives_the_same_interval(matches, worse):
    assert paired_bootstrap(matches, worse, resamples=50, seed=3) == paired_bootstrap(
        matches, worse, resamples=50, seed=3
    )


def test_about_nineteen_in_twenty_intervals_hold_the_true_difference():
    rng = np.random.default_rng(0)
    kept = 0
    for _ in range(40):
        pair = []
        held = [truths([BOX], [0])] * 60
        for share in (0.8, 0.6):  # of the images in which the one object is found, with no false alarm anywhere
            seen = rng.random(60) < share
            found = [detections([BOX] if s else [], [0] if s else [], [0.9] if s else []) for s in seen]
            pair.append(match_all(found, held, 300))
        interval = paired_bootstrap(*pair, resamples=200)
        kept += interval.low <= -20 <= interval.high
    assert kept >= 33  # 38 expected


def test_few_images_show_no_difference():
    few = crowds(seed=2, images=6)
    off = [dataclasses.replace(one, xyxy=one.xyxy + np.float32(3)) for one in few[0]]
    found = paired_bootstrap(match_all(*few, 300), match_all(off, few[1], 300), resamples=50)
    assert found.high < 0
    assert not found.shown


def test_models_scored_on_other_images_are_refused(matches):
    with pytest.raises(UsageError, match="different images or labels"):
        paired_bootstrap(matches, match_all(*crowds(seed=5, images=30), 300))


def test_a_model_that_finds_nothing_can_be_compared(crowd, matches):
    nothing = match_all([detections([], [], [])] * 30, crowd[1], 300)
    found = paired_bootstrap(matches, nothing, resamples=50)
    assert found.points == pytest.approx(-100 * map50_95(matches, np.ones(30, dtype=np.int64)))


def test_matches_come_back_from_their_file(tmp_path, matches, worse):
    save(tmp_path / "matches.npz", {"dense": matches, "a/b": worse})
    back = load(tmp_path / "matches.npz")
    assert list(back) == ["dense", "a/b"]
    assert paired_bootstrap(back["dense"], back["a/b"], resamples=20) == paired_bootstrap(matches, worse, resamples=20)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_a_damaged_file_of_matches_is_one_clear_error(tmp_path, content):
    (tmp_path / "matches.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"matches\.npz is damaged"):
        load(tmp_path / "matches.npz")


def test_a_scorer_that_keeps_gives_the_other_scorers_figures(crowd, matches):
    keeping = Keeping(coco.score)
    assert keeping(*crowd, 300) == coco.score(*crowd, 300)
    assert np.array_equal(keeping.matches().right, matches.right)
    assert len(keeping.matches().right) == len(IOUS)

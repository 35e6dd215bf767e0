"""Scores against boxes whose scores can be told by hand, and against pycocotools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crowds import crowds, detections, truths

from slimdeploy.accuracy import coco

BOX, FAR = [10, 10, 30, 30], [60, 60, 90, 90]


def test_perfect_boxes_score_one_everywhere():
    scores = coco.score([detections([BOX, FAR], [0, 1], [0.9, 0.8])], [truths([BOX, FAR], [0, 1])], 300)
    assert (scores.map50, scores.map50_95) == pytest.approx((1, 1))
    assert (scores.precision, scores.recall) == pytest.approx((1, 1))
    assert scores.per_class == pytest.approx({0: 1, 1: 1})


def test_no_detections_score_zero():
    scores = coco.score([detections([], [], [])], [truths([BOX], [0])], 300)
    assert (scores.map50, scores.map50_95, scores.precision, scores.recall) == (0, 0, 0, 0)
    assert scores.per_class == {0: 0}


def test_detections_far_from_every_object_score_zero():
    scores = coco.score([detections([FAR], [0], [0.9])], [truths([BOX], [0])], 300)
    assert (scores.map50, scores.precision, scores.recall) == (0, 0, 0)


def test_a_class_that_the_split_lacks_is_left_out_of_the_mean():
    scores = coco.score([detections([BOX, FAR], [0, 2], [0.9, 0.95])], [truths([BOX], [0])], 300)
    assert scores.map50 == pytest.approx(1)
    assert set(scores.per_class) == {0}


def test_a_box_that_overlaps_by_half_counts_at_fifty_and_not_at_ninety_five():
    shifted = [10, 10, 30, 24]  # IoU 0.7 with BOX
    scores = coco.score([detections([shifted], [0], [0.9])], [truths([BOX], [0])], 300)
    assert scores.map50 == pytest.approx(1)
    assert scores.map50_95 == pytest.approx(0.5, abs=0.11)


def test_false_alarms_below_the_best_confidence_leave_the_precision_alone():
    found = detections([BOX, FAR], [0, 0], [0.9, 0.1])
    scores = coco.score([found], [truths([BOX], [0])], 300)
    assert (scores.precision, scores.recall) == pytest.approx((1, 1))


def test_a_stronger_false_alarm_halves_the_precision():
    found = detections([BOX, FAR], [0, 0], [0.6, 0.9])
    scores = coco.score([found], [truths([BOX], [0])], 300)
    assert (scores.precision, scores.recall) == pytest.approx((0.5, 1))


def test_precision_and_recall_are_taken_at_one_confidence_for_all_classes():
    recalls = np.array([0.0, 0.5, 1.0])
    precision = np.array([[1.0, 1.0, 0.4], [1.0, 1.0, 1.0]])
    confidence = np.array([[0.9, 0.9, 0.1], [0.9, 0.8, 0.7]])
    p, r = coco.best_f1(precision, confidence, recalls)
    assert (p, r) == pytest.approx((1.0, 0.75))  # at 0.7: first class recall 0.5, second 1


def test_more_than_a_hundred_objects_of_a_class_can_be_found_in_one_image():
    many = [[x, y, x + 4, y + 4] for x in range(0, 96, 6) for y in range(0, 96, 6)]
    found = detections(many, [0] * len(many), np.linspace(0.9, 0.5, len(many)))
    truth = truths(many, [0] * len(many))
    assert len(many) > 200
    assert coco.score([found], [truth], 300).map50 == pytest.approx(1)
    assert coco.score([found], [truth], 100).map50 < 0.5


@pytest.mark.parametrize("max_det", [12, 300])
@pytest.mark.parametrize("seed", range(3))
def test_every_figure_is_that_of_pycocotools(seed, max_det):
    pytest.importorskip("pycocotools", reason="pycocotools comes with the extra dev")
    from coco_scorer import by_pycocotools, by_slimdeploy

    found, held = crowds(seed=seed, images=20, side=300)
    theirs = by_pycocotools(found, held, max_det)
    assert 0.1 < theirs["map50_95"] < 0.9
    assert {"ap75", "ap_small", "ap_medium", "ap_large", "ar_large", "ar1", "ar10", "ar", "class 2"} <= set(theirs)
    assert by_slimdeploy(found, held, max_det) == pytest.approx(theirs, abs=1e-6)


def real_boxes():
    """Return what a YOLOv8n found in every eighth photograph of aerial_cars' val split, and the labelled cars there."""
    with (Path(__file__).parent / "real_detections.npz").open("rb") as stream, np.load(stream) as stored:
        boxes = np.split(stored["tenths"] / 10, np.cumsum(stored["counts"])[:-1])
        scores = np.split(stored["scores"], np.cumsum(stored["counts"])[:-1])
        objects = np.split(stored["object_tenths"] / 10, np.cumsum(stored["object_counts"])[:-1])
    found = [detections(own, [0] * len(own), score) for own, score in zip(boxes, scores, strict=True)]
    return found, [truths(own, [0] * len(own)) for own in objects]


@pytest.mark.parametrize("max_det", [20, 100, 300])
def test_every_figure_of_a_real_detector_is_that_of_pycocotools(max_det):
    pytest.importorskip("pycocotools", reason="pycocotools comes with the extra dev")
    from coco_scorer import by_pycocotools, by_slimdeploy

    theirs = by_pycocotools(*real_boxes(), max_det)
    assert 0.4 < theirs["map50_95"] < 0.7
    assert by_slimdeploy(*real_boxes(), max_det) == pytest.approx(theirs, abs=1e-6)


def test_sizes_that_no_object_has_have_no_figure():
    scores = coco.score([detections([BOX], [0], [0.9])], [truths([BOX], [0])], 300)
    assert "ap_small" in scores.figures
    assert not {"ap_medium", "ap_large", "ar_medium", "ar_large"} & set(scores.figures)


def test_a_detector_that_finds_nothing_has_the_same_figures_as_one_that_does():
    truth = truths([BOX, [0, 0, 50, 50]], [0, 0])
    nothing = coco.score([detections([], [], [])], [truth], 300)
    assert set(nothing.figures) == set(coco.score([detections([BOX], [0], [0.9])], [truth], 300).figures)
    assert set(nothing.figures.values()) == {0}


def test_areas_are_those_of_the_image_file():
    large = [0, 0, 97, 97]
    scores = coco.score([detections([large], [0], [0.9])], [truths([large], [0])], 300)
    assert scores.figures["ap_large"] == pytest.approx(1)


def test_scoring_prints_nothing(capsys):
    coco.score([detections([BOX], [0], [0.9])], [truths([BOX], [0])], 300)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")

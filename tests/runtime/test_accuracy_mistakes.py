"""What counts as right, wrong and missed, and which images are shown."""

from __future__ import annotations

import numpy as np
import pytest
from crowds import detections, truths

from slimdeploy.accuracy.mistakes import confident, confusion, mistakes, pair
from slimdeploy.stages._scoring import choose

BOX, NEAR, FAR = [10, 10, 30, 30], [11, 10, 31, 30], [60, 60, 90, 90]


def test_a_box_of_its_own_class_is_preferred_to_one_that_overlaps_more():
    found = detections([BOX, NEAR], [1, 0], [0.9, 0.8])
    assert pair(found, truths([BOX], [0])).tolist() == [-1, 0]


def test_of_two_boxes_on_one_object_the_one_that_overlaps_more_is_right():
    found = detections([NEAR, BOX], [0, 0], [0.9, 0.8])
    assert pair(found, truths([BOX], [0])).tolist() == [-1, 0]


def test_boxes_below_the_working_confidence_are_not_shown():
    assert confident(detections([BOX, FAR], [0, 0], [0.3, 0.2])).scores.tolist() == pytest.approx([0.3])


def test_the_confusions_tell_right_taken_for_another_missed_and_false_alarms_apart():
    held = truths([BOX, FAR, [0, 60, 20, 90]], [0, 1, 1])
    found = detections([BOX, FAR, [60, 0, 90, 20]], [0, 0, 1], [0.9, 0.8, 0.7])
    assert confusion([found], [held], 2).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert mistakes([found], [held]).tolist() == [3]


def test_an_image_without_objects_and_boxes_has_no_mistakes():
    nothing = detections([], [], [])
    assert mistakes([nothing, detections([BOX], [0], [0.9])], [truths([], [])] * 2).tolist() == [0, 1]
    assert confusion([nothing], [truths([], [])], 1).tolist() == [[0, 0], [0, 0]]


def test_the_worst_images_are_shown_and_typical_ones_beside_them():
    wrong, held = np.array([0, 9, 1, 2, 8, 3, 7, 2, 1, 0]), np.array([5] * 7 + [0, 5, 5])
    chosen = choose(wrong, held)
    assert [i for i, why in chosen if why == "worst"] == [1, 4, 6]
    typical = [i for i, why in chosen if why == "typical"]
    assert len(set(typical)) == 3
    assert not {1, 4, 6, 7} & set(typical)  # each once, and none without objects


@pytest.mark.parametrize(
    ("wrong", "held", "expected"),
    [
        pytest.param([0, 0], [3, 3], [(0, "typical"), (1, "typical")], id="no mistakes: no worst image"),
        pytest.param([4], [3], [(0, "worst")], id="one image"),
        pytest.param([2, 0], [0, 0], [(0, "worst")], id="nothing held"),
    ],
)
def test_few_images_are_shown_once_each(wrong, held, expected):
    assert sorted(choose(np.array(wrong), np.array(held))) == expected

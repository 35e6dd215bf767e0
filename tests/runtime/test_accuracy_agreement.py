"""How well one network finds what another one finds."""

from __future__ import annotations

import numpy as np
import pytest

from slimdeploy.accuracy.agreement import agreement_of, matched_pairs
from slimdeploy.board.boxes import Detections

CLASSES = ("car", "van")


def boxes(*rows):
    """Return detections from rows of left, top, side, score and class."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    order = np.argsort(-table[:, 3], kind="stable")
    left_top, side = table[order, :2], table[order, 2:3]
    return Detections(
        xyxy=np.concatenate([left_top, left_top + side], axis=1), scores=table[order, 3],
        labels=table[order, 4].astype(np.int64),
    )  # fmt: skip


TWO_CARS = boxes((0, 0, 10, 0.9, 0), (50, 50, 10, 0.6, 0))
NOTHING = boxes()


def agreement(*pairs):
    return agreement_of([dense for dense, _ in pairs], [changed for _, changed in pairs], CLASSES)


def test_the_same_boxes_agree_wholly():
    same = agreement((TWO_CARS, TWO_CARS), (NOTHING, NOTHING))
    assert (same.share, same.images, same.dense, same.matched, same.score_change) == (1.0, 2, 2, 2, 0.0)


@pytest.mark.parametrize(
    ("changed", "share"),
    [
        pytest.param(NOTHING, 0.0, id="nothing is found"),
        pytest.param(boxes((0, 0, 10, 0.9, 0)), 2 / 3, id="one of two is found"),
        pytest.param(boxes((0, 0, 10, 0.9, 1), (50, 50, 10, 0.6, 1)), 0.0, id="the class is wrong"),
        pytest.param(boxes((6, 0, 10, 0.9, 0), (50, 50, 10, 0.6, 0)), 0.5, id="a box has moved away"),
        pytest.param(boxes((0, 0, 10, 0.9, 0), (1, 0, 10, 0.8, 0), (50, 50, 10, 0.6, 0)), 0.8, id="one is found twice"),
    ],
)
def test_what_differs_lowers_the_agreement(changed, share):
    assert agreement((TWO_CARS, changed)).share == pytest.approx(share)


def test_boxes_that_agree_say_how_far_their_scores_moved():
    lower = boxes((0, 0, 10, 0.7, 0), (50, 50, 10, 0.6, 0))
    assert agreement((TWO_CARS, lower)).score_change == pytest.approx(0.1)


def test_classes_are_counted_apart():
    dense = boxes((0, 0, 10, 0.9, 0), (50, 50, 10, 0.6, 1))
    changed = boxes((0, 0, 10, 0.9, 0), (80, 80, 10, 0.6, 0))
    rows = {row.name: (row.dense, row.changed, row.matched) for row in agreement((dense, changed)).by_class}
    assert rows == {"car": (1, 2, 1), "van": (1, 0, 0)}


def test_of_two_boxes_on_one_object_the_surer_one_matches():
    changed = boxes((2, 0, 10, 0.9, 0), (0, 0, 10, 0.4, 0))
    assert matched_pairs(boxes((0, 0, 10, 0.9, 0)), changed) == [(0, 0)]


def test_two_networks_that_find_nothing_agree_on_nothing():
    assert agreement((NOTHING, NOTHING)).share == 0.0

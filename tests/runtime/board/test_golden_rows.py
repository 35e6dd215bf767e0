"""Rows of an output are held to what the desk's graph gave: boxes in pixels, scores, and whatever a task adds."""

from __future__ import annotations

import numpy as np
import pytest

from slimdeploy.board.golden_rows import compare_rows, read_rows

TOLERANCE = {"box_px": 1.0, "score": 0.02}
ROWS = [[5, 5, 10, 10, 0.9, 0.1, 0.5], [50, 50, 20, 20, 0.2, 0.6, 300]]  # box, two scores, one value more
TOLD = {"anchors": [1, 3], "rows": ROWS, "boxes": 4, "classes": 2, "tolerance": TOLERANCE}


def a_head(**changes):
    """An output of 5 anchors, changed at (anchor, channel)."""
    head = np.zeros((7, 5), dtype=np.float32)
    head[:, [1, 3]] = np.array(ROWS).T
    for (anchor, channel), value in changes.get("at", {}).items():
        head[channel, anchor] = value
    return head


@pytest.mark.parametrize(
    ("at", "missing", "unexpected"),
    [
        pytest.param({}, 0, 0, id="the same"),
        pytest.param({(1, 0): 5.9, (3, 5): 0.59, (3, 6): 305}, 0, 0, id="within the tolerance"),
        pytest.param({(1, 0): 6.1}, 1, 0, id="a box that moved"),
        pytest.param({(3, 4): 0.23}, 1, 0, id="a score that changed"),
        pytest.param({(1, 6): 0.53}, 1, 0, id="another small value"),
        pytest.param({(3, 6): 310}, 1, 0, id="another large value"),
        pytest.param({(1, 0): np.nan}, 1, 0, id="not a number"),
        pytest.param({(0, 5): 0.95}, 0, 1, id="a score of nothing"),
        pytest.param({(0, 5): np.nan}, 0, 1, id="not a number elsewhere"),
        pytest.param({(0, 5): 0.91}, 0, 0, id="a score no higher than expected ones"),
    ],
)
def test_rows_are_compared_within_the_tolerance(at, missing, unexpected):
    found = compare_rows(a_head(at=at), read_rows(TOLD))
    assert (found.expected, found.missing, found.unexpected) == (2, missing, unexpected)
    assert found.holds == (missing == unexpected == 0)


def test_a_classifier_has_one_row_of_scores():
    told = {"anchors": [0], "rows": [[0.7, 0.3]], "boxes": 0, "classes": 2, "tolerance": TOLERANCE}
    assert compare_rows(np.array([0.71, 0.29], dtype=np.float32), read_rows(told)).holds
    assert not compare_rows(np.array([0.6, 0.4], dtype=np.float32), read_rows(told)).holds


def test_an_output_of_another_form_holds_nothing():
    assert compare_rows(np.zeros((6, 5), dtype=np.float32), read_rows(TOLD)).missing == 2
    assert compare_rows(np.zeros((7, 2), dtype=np.float32), read_rows(TOLD)).missing == 2


@pytest.mark.parametrize("broken", [{"rows": []}, {"rows": [[1.0]] * 2}, {"anchors": [1]}, {"rows": "x"}])
def test_a_record_that_is_damaged_is_refused(broken):
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_rows({**TOLD, **broken})

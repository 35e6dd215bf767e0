"""How far an exported graph may lie from its network, and on which images that is judged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimdeploy.configs import ExportConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import GateError
from slimdeploy.stages import _parity

CONFIG = ExportConfig(imgsz=(64, 96))


@pytest.fixture
def output():
    """The raw head of one image: 2 classes, 50 anchors, of which 30 score well."""
    rng = np.random.default_rng(0)
    scores = np.full((2, 50), 0.001, dtype=np.float32)
    scores[0, :30] = 0.9
    return np.concatenate([rng.uniform(10, 50, (4, 50)).astype(np.float32), scores])


def changed(output, row, anchor, by):
    copy = output.copy()
    copy[row, anchor] += by
    return copy


def test_equal_outputs_agree(output):
    found = _parity.compare([(output, output.copy())] * 3)
    assert (found.images, found.boxes) == (3, 90)
    assert (found.box_shift_px, found.score_change, found.raw_difference) == (0, 0, 0)
    found.require(CONFIG, "fp32")


def test_a_moved_box_that_scores_well_fails_the_gate(output):
    found = _parity.compare([(output, changed(output, 0, 3, 2.0))])
    assert found.box_shift_px == pytest.approx(2.0)
    with pytest.raises(GateError, match=r"moves boxes by up to 2 px"):
        found.require(CONFIG, "fp32")


def test_a_wider_box_moves_its_corners_by_half(output):
    assert _parity.compare([(output, changed(output, 2, 3, 1.0))]).box_shift_px == pytest.approx(0.5)


def test_a_moved_box_that_nobody_sees_counts_in_the_raw_difference_alone(output):
    found = _parity.compare([(output, changed(output, 0, 45, 5.0))])
    assert found.box_shift_px == 0
    assert found.raw_difference == pytest.approx(5.0)


def test_a_box_that_only_the_graph_finds_is_compared(output):
    actual = changed(changed(output, 0, 45, 5.0), 5, 45, 0.5)
    found = _parity.compare([(output, actual)])
    assert found.box_shift_px == pytest.approx(5.0)
    assert found.score_change == pytest.approx(0.5)


def test_a_changed_score_fails_the_gate_wherever_it_is(output):
    with pytest.raises(GateError, match=r"changes scores by up to 0\.03"):
        _parity.compare([(output, changed(output, 4, 45, 0.03))]).require(CONFIG, "fp32")


def test_where_nothing_scores_well_the_best_boxes_are_compared(output):
    quiet = output.copy()
    quiet[4:] *= 0.001
    assert _parity.compare([(quiet, quiet)]).boxes == _parity.AT_LEAST


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_no_number_fails_the_gate(output, value):
    actual = output.copy()
    actual[1, 3] = value
    with pytest.raises(GateError):
        _parity.compare([(output, actual)]).require(CONFIG, "fp32")


def write_data(folder, *, train, val):
    for split, count in (("train", train), ("val", val)):
        (folder / "images" / split).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / "images" / split / f"{i:02}.png"), np.full((40, 60, 3), 10 * i, dtype=np.uint8))
    lines = [f"{split}: images/{split}" for split, count in (("train", train), ("val", val)) if count]
    (folder / "data.yaml").write_text("\n".join([*lines, "names: [car]"]), encoding="utf-8")
    return read_dataset(folder / "data.yaml")


def test_images_come_from_the_val_split_spread_over_all_of_it(tmp_path):
    inputs, source = _parity.check_inputs(write_data(tmp_path, train=4, val=16), CONFIG)
    assert [x.shape for x in inputs] == [(3, 64, 96)] * 8
    assert source == f"images of {tmp_path.name}, val"
    assert [round(float(x.max()) * 255) for x in inputs] == [0, 20, 40, 60, 80, 100, 120, 140]


def test_the_train_split_gives_what_the_val_split_lacks(tmp_path):
    inputs, source = _parity.check_inputs(write_data(tmp_path, train=20, val=3), CONFIG)
    assert len(inputs) == 8
    assert source == f"images of {tmp_path.name}, val and train"


def test_a_data_set_without_val_gives_images_of_its_train_split(tmp_path):
    inputs, source = _parity.check_inputs(write_data(tmp_path, train=5, val=0), CONFIG)
    assert len(inputs) == 5
    assert source.endswith(", train")


def test_without_data_seeded_scenes_are_rendered():
    first, source = _parity.check_inputs(None, CONFIG)
    again, _ = _parity.check_inputs(None, CONFIG)
    assert [x.shape for x in first] == [(3, 64, 96)] * 8
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert source == "rendered scenes, seed 0"


def test_the_last_batch_is_filled_up_from_the_start():
    inputs = [np.full((3, 2, 2), i, dtype=np.float32) for i in range(3)]
    stacked = _parity.batches(inputs, 2)
    assert [batch[:, 0, 0, 0].tolist() for batch in stacked] == [[0, 1], [2, 0]]

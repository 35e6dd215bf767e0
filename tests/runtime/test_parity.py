"""How far an exported graph may lie from its network, and on which images that is judged."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest

from slimdeploy.configs import ExportConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import GateError
from slimdeploy.records import Checkpoint
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


def checkpoint_for(task, classes=("car", "van"), kpt_shape=None):
    return Checkpoint(
        path="a.pt", sha256="a" * 64, task=task, classes=classes, stride=32, parameters=1, size_bytes=1, pruned=False,
        kpt_shape=kpt_shape,
    )  # fmt: skip


def compare(pairs, known=None):
    """Compare rows of anchors, given without the name of their output."""
    named = [({"output0": expected}, {"output0": actual}) for expected, actual in pairs]
    return _parity.compare(named, known or checkpoint_for("detect"))


def test_equal_outputs_agree(output):
    found = compare([(output, output.copy())] * 3)
    assert (found.images, found.boxes) == (3, 90)
    assert (found.box_shift_px, found.score_change, found.raw_difference) == (0, 0, 0)
    found.require(CONFIG, "fp32")


def test_a_moved_box_that_scores_well_fails_the_gate(output):
    found = compare([(output, changed(output, 0, 3, 2.0))])
    assert found.box_shift_px == pytest.approx(2.0)
    with pytest.raises(GateError, match=r"moves boxes by up to 2 px"):
        found.require(CONFIG, "fp32")


def test_a_wider_box_moves_its_corners_by_half(output):
    assert compare([(output, changed(output, 2, 3, 1.0))]).box_shift_px == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("side", "moved", "allowed"),
    [
        pytest.param(100, 1.5, False, id="a box of 100 px"),
        pytest.param(300, 2.5, True, id="a long box, by less than a hundredth of its side"),
        pytest.param(300, 3.5, False, id="a long box, by more"),
    ],
)
def test_a_long_box_may_move_by_a_hundredth_of_its_longer_side(output, side, moved, allowed):
    output[2, 3], output[3, 3] = side, 20.0
    found = compare([(output, changed(output, 0, 3, moved))])
    assert found.box_shift_px == pytest.approx(moved, rel=1e-4)
    with contextlib.nullcontext() if allowed else pytest.raises(GateError, match="or as many hundredths of a long box"):
        found.require(CONFIG, "fp16")


def test_a_moved_box_that_nobody_sees_counts_in_the_raw_difference_alone(output):
    found = compare([(output, changed(output, 0, 45, 5.0))])
    assert found.box_shift_px == 0
    assert found.raw_difference == pytest.approx(5.0)


def test_a_box_that_only_the_graph_finds_is_compared(output):
    actual = changed(changed(output, 0, 45, 5.0), 5, 45, 0.5)
    found = compare([(output, actual)])
    assert found.box_shift_px == pytest.approx(5.0)
    assert found.score_change == pytest.approx(0.5)


def test_a_changed_score_fails_the_gate_wherever_it_is(output):
    with pytest.raises(GateError, match=r"changes scores by up to 0\.03"):
        compare([(output, changed(output, 4, 45, 0.03))]).require(CONFIG, "fp32")


def test_where_nothing_scores_well_the_best_boxes_are_compared(output):
    quiet = output.copy()
    quiet[4:] *= 0.001
    assert compare([(quiet, quiet)]).boxes == _parity.AT_LEAST


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_no_number_fails_the_gate(output, value):
    actual = output.copy()
    actual[1, 3] = value
    with pytest.raises(GateError):
        compare([(output, actual)]).require(CONFIG, "fp32")


@pytest.mark.parametrize("row", [0, 5], ids=["a box", "a score"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_anchor_of_no_numbers_is_refused_at_every_precision_for_what_it_is(output, row, precision):
    actual = output.copy()
    actual[row, 49] = np.nan  # an anchor that scores next to nothing
    with pytest.raises(GateError, match=f"exported {precision} graph gives NaN or infinity"):
        compare([(output, actual)]).require_finite(precision)


def test_a_moved_keypoint_fails_the_gate_and_a_visibility_counts_as_a_score(output):
    known = checkpoint_for("pose", kpt_shape=(2, 3))
    points = np.concatenate([output, np.full((6, 50), 0.5, dtype=np.float32)])
    found = compare([(points, changed(changed(points, 9, 3, 2.0), 8, 3, 0.01))], known)
    assert found.keypoint_shift_px == pytest.approx(2.0)
    assert (found.box_shift_px, found.score_change) == (0, pytest.approx(0.01))
    with pytest.raises(GateError, match="moves boxes by up to 2 px"):
        found.require(CONFIG, "fp32")


def test_an_angle_moves_the_corners_of_its_box(output):
    flat = np.concatenate([output, np.zeros((1, 50), dtype=np.float32)])
    flat[2:4] = [[30.0], [0.0]]
    found = compare([(flat, changed(flat, 6, 3, np.pi / 2))], checkpoint_for("obb"))
    assert found.box_shift_px == pytest.approx(15.0)


def test_an_oriented_box_that_is_not_turned_has_the_corners_of_an_upright_one(output):
    rows = np.concatenate([output, np.zeros((1, 50), dtype=np.float32)])
    upright = _parity._corners(rows)
    assert _parity._turned_corners(rows)[[0, 1, 6, 7]] == pytest.approx(upright)


@pytest.mark.parametrize("name", ["output0", "output1"], ids=["a coefficient", "the prototypes"])
def test_a_changed_mask_fails_the_gate_whatever_changed_it(output, name):
    rng = np.random.default_rng(0)
    rows = np.concatenate([output, rng.normal(size=(4, 50)).astype(np.float32)])
    expected = {"output0": rows, "output1": rng.normal(size=(4, 8, 12)).astype(np.float32)}
    actual = expected | {name: expected[name].copy()}
    actual[name][-1] += 0.5
    found = _parity.compare([(expected, actual)], checkpoint_for("segment"))
    assert 0.02 < found.mask_change < 0.5
    with pytest.raises(GateError):
        found.require(CONFIG, "fp32")


def test_a_classifiers_probabilities_are_compared():
    known = checkpoint_for("classify", classes=("a", "b", "c"))
    expected = np.array([0.2, 0.3, 0.5], dtype=np.float32)
    found = compare([(expected, expected + np.float32([0, 0.1, -0.1]))], known)
    assert (found.boxes, found.score_change) == (0, pytest.approx(0.1))
    assert (found.keypoint_shift_px, found.mask_change) == (None, None)


def test_the_outputs_of_a_batch_are_compared_image_by_image():
    batch = {"output0": np.arange(12, dtype=np.float32).reshape(2, 2, 3)}
    (first, _), (second, same) = _parity.per_image(batch, batch)
    assert (first["output0"].tolist(), second["output0"].tolist()) == ([[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]])
    assert np.array_equal(second["output0"], same["output0"])


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


def test_an_input_smaller_than_any_scene_gets_scenes_scaled_down():
    inputs, _ = _parity.check_inputs(None, ExportConfig(imgsz=(32, 32)))
    assert [x.shape for x in inputs] == [(3, 32, 32)] * 8


def test_the_last_batch_is_filled_up_from_the_start():
    inputs = [np.full((3, 2, 2), i, dtype=np.float32) for i in range(3)]
    stacked = _parity.batches(inputs, 2)
    assert [batch[:, 0, 0, 0].tolist() for batch in stacked] == [[0, 1], [2, 0]]

"""Decoding and NMS against ultralytics' non_max_suppression."""

from __future__ import annotations

import numpy as np
import pytest

from slimdeploy.board.decode import decode, overlaps, suppress

EMPTY = dict(conf=0.001, iou=0.7, max_det=300)


def a_head(classes, anchors, *, seed, crowd=1.0, side=640):
    """A raw output whose boxes lie in clusters, so that NMS has work to do."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, side, (2, max(1, int(anchors * crowd / 8))))
    chosen = rng.integers(0, centres.shape[1], anchors)
    xy = centres[:, chosen] + rng.normal(0, 3, (2, anchors))
    wh = rng.uniform(8, 80, (2, centres.shape[1]))[:, chosen] * rng.uniform(0.9, 1.1, (2, anchors))
    scores = rng.beta(0.3, 3, (classes, anchors))
    return np.concatenate([xy, wh, scores]).astype(np.float32)


@pytest.mark.parametrize("multi_label", [True, False], ids=["multi-label", "best class"])
@pytest.mark.parametrize(
    ("classes", "anchors", "conf"),
    [
        pytest.param(1, 2100, 0.001, id="one class"),
        pytest.param(4, 2100, 0.001, id="four classes"),
        pytest.param(10, 4200, 0.001, id="more candidates than are looked at"),
        pytest.param(10, 2100, 0.25, id="few candidates"),
    ],
)
def test_the_boxes_are_those_of_ultralytics(classes, anchors, conf, multi_label):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")  # once imported, ultralytics takes its NMS and not its own slow one
    nms = pytest.importorskip("ultralytics.utils.nms")
    head = a_head(classes, anchors, seed=classes)
    stock = nms.non_max_suppression(
        torch.from_numpy(head[None].copy()), conf, 0.7, multi_label=multi_label, max_det=300
    )[0].numpy()
    found = decode(head, conf=conf, iou=0.7, max_det=300, multi_label=multi_label)
    assert len(stock) > 10
    assert np.array_equal(found.scores, stock[:, 4])
    assert np.array_equal(found.labels, stock[:, 5].astype(int))
    assert np.array_equal(found.xyxy, stock[:, :4])


def test_boxes_of_different_classes_do_not_suppress_each_other():
    head = np.array([[50, 50], [50, 50], [20, 20], [20, 20], [0.9, 0], [0, 0.8]], dtype=np.float32)
    assert decode(head, **EMPTY).labels.tolist() == [0, 1]


def test_one_anchor_gives_a_box_for_each_class_only_if_asked():
    head = np.array([[50], [50], [20], [20], [0.9], [0.8]], dtype=np.float32)
    assert decode(head, **EMPTY).labels.tolist() == [0, 1]
    assert decode(head, **EMPTY, multi_label=False).labels.tolist() == [0]


def test_a_head_without_candidates_gives_no_boxes():
    head = np.zeros((8, 100), dtype=np.float32)
    found = decode(head, **EMPTY)
    assert (found.xyxy.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))


def test_no_more_boxes_come_out_than_asked_for_and_they_are_the_best():
    head = a_head(3, 2100, seed=5)
    many, few = decode(head, **EMPTY), decode(head, conf=0.001, iou=0.7, max_det=10)
    assert few.scores.tolist() == many.scores[:10].tolist()


def test_a_box_without_area_overlaps_nothing():
    flat = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], dtype=np.float32)
    assert overlaps(flat, flat).tolist() == [[0, 0], [0, 0]]


def test_a_suppressed_box_suppresses_nothing_itself():
    chain = np.array([[0, 0, 10, 10], [0, 2, 10, 12], [0, 4, 10, 14]], dtype=np.float32)  # each overlaps the next
    assert suppress(chain, iou=0.6, most=10).tolist() == [0, 2]


def test_suppression_is_greedy_across_more_boxes_than_one_chunk_holds():
    corners = np.random.default_rng(0).random((700, 2), dtype=np.float32) * 100
    boxes = np.concatenate([corners, corners + 20], axis=1)
    kept = []
    for i in range(len(boxes)):
        if not kept or not (overlaps(boxes[kept], boxes[i : i + 1]) > np.float32(0.3)).any():
            kept.append(i)
    assert suppress(boxes, iou=0.3, most=700).tolist() == kept

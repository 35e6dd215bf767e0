"""The evaluation loop with a detector that knows the answers."""

from __future__ import annotations

import dataclasses
import logging

import cv2
import numpy as np
import pytest

from slimdeploy.accuracy.boxes import Scores
from slimdeploy.accuracy.evaluate import evaluate, score
from slimdeploy.configs import ValConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import ArtifactError, DataError, UsageError
from slimdeploy.records import Artifact, ModelSpec

CLASSES = ("square", "bar")
SIZES = [(80, 160), (100, 100), (160, 80)]
TRUTHS = [[(0, 0.5, 0.5, 0.2, 0.2)], [(1, 0.3, 0.4, 0.2, 0.3), (0, 0.7, 0.7, 0.2, 0.2)], [(1, 0.5, 0.25, 0.5, 0.1)]]


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path, TRUTHS)


def make_data(folder, truths):
    """Three images of different shapes; the first pixel of each tells which one it is."""
    for kind in ("images", "labels"):
        (folder / kind / "val").mkdir(parents=True)
    for number, (size, boxes) in enumerate(zip(SIZES, truths, strict=True)):
        image = np.full((*size, 3), 40 * number + 20, dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / "val" / f"{number}.png"), image)
        rows = "".join(" ".join(str(v) for v in box) + "\n" for box in boxes)
        (folder / "labels" / "val" / f"{number}.txt").write_text(rows, encoding="utf-8")
    (folder / "data.yaml").write_text(f"val: images/val\nnames: {list(CLASSES)}\n", encoding="utf-8")
    return read_dataset(folder / "data.yaml")


def spec(batch=1, classes=CLASSES):
    return ModelSpec(task="detect", classes=classes, imgsz=(64, 64), batch=batch)


class Knowing:
    """A session that recognises each image by its grey and answers with its true boxes."""

    def __init__(self, spoil=lambda output: output):
        self.spoil = spoil
        self.shapes = []

    def run(self, feeds):
        images = feeds["images"]
        self.shapes.append((images.shape, images.dtype))
        return {"output0": self.spoil(np.stack([self.answer(image) for image in images]))}

    def close(self):
        pass

    def answer(self, image):
        output = np.zeros((6, 9), dtype=np.float32)
        number = round((float(image[0, 32, 32]) * 255 - 20) / 40)
        if number < 0:  # the black that fills a short batch
            return output
        height, width = SIZES[number]
        gain = 64 / max(height, width)
        left, top = (64 - width * gain) / 2, (64 - height * gain) / 2
        for anchor, (label, x, y, w, h) in enumerate(TRUTHS[number]):
            output[:4, anchor] = x * width * gain + left, y * height * gain + top, w * width * gain, h * height * gain
            output[4 + label, anchor] = 0.9
        return output


def test_a_detector_that_knows_every_box_scores_one_whatever_the_images_shape(data):
    accuracy = evaluate([Knowing()], spec(), data, ValConfig())
    assert accuracy.map50 == pytest.approx(1)
    assert accuracy.map50_95 == pytest.approx(1)
    assert (accuracy.images, accuracy.boxes) == (3, 4)
    assert accuracy.per_class == pytest.approx({"square": 1, "bar": 1})


def test_a_short_last_batch_is_filled_and_its_filling_not_scored(data):
    session = Knowing()
    accuracy = evaluate([session], spec(batch=2), data, ValConfig())
    assert session.shapes == [((2, 3, 64, 64), np.float32)] * 2
    assert accuracy.map50 == pytest.approx(1)


def test_a_detector_that_finds_nothing_scores_zero(data):
    accuracy = evaluate([Knowing(lambda output: output * 0)], spec(), data, ValConfig())
    assert (accuracy.map50, accuracy.precision, accuracy.recall) == (0, 0, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_no_number_names_the_model(data, value):
    with pytest.raises(ArtifactError, match=r"tuned\.onnx gives NaN or infinity"):
        evaluate([Knowing(lambda output: output * 0 + value)], spec(), data, ValConfig(), name="tuned.onnx")


def test_an_output_of_another_shape_is_refused(data):
    with pytest.raises(ArtifactError, match=r"shape \(1, 5, 9\).*\(1, 6, anchors\)"):
        evaluate([Knowing(lambda output: output[:, :5])], spec(), data, ValConfig())


def test_other_classes_than_the_data_sets_are_refused(data):
    with pytest.raises(DataError, match="classes"):
        evaluate([Knowing()], spec(classes=("car", "van")), data, ValConfig())


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_the_accuracy_of_another_task_is_refused_before_anything_is_opened(data, task):
    model = Artifact(
        path="gone.onnx", format="onnx", precision="fp32", sha256="", spec=dataclasses.replace(spec(), task=task),
        parameters=1, macs=1, size_bytes=1,
    )  # fmt: skip
    with pytest.raises(
        UsageError, match=rf"accuracy of gone.onnx, a network for the task '{task}'; wanted: a detector"
    ):
        score(model, data, ValConfig())


def test_a_split_without_labels_is_refused(tmp_path):
    with pytest.raises(DataError, match="no labels"):
        evaluate([Knowing()], spec(), make_data(tmp_path, [[], [], []]), ValConfig())


def test_a_split_that_the_data_lacks_is_refused(data):
    with pytest.raises(DataError, match="no split 'test'"):
        evaluate([Knowing()], spec(), data, ValConfig(split="test"))


def test_an_image_that_does_not_decode_is_named(data):
    image = data.images("val")[1]
    image.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=rf"{image.name} is damaged"):
        evaluate([Knowing()], spec(), data, ValConfig())


def test_the_same_label_twice_counts_once(tmp_path):
    doubled = make_data(tmp_path, [TRUTHS[0] * 2, *TRUTHS[1:]])
    assert evaluate([Knowing()], spec(), doubled, ValConfig()).boxes == 4


def test_another_scorer_can_judge_the_boxes(data):
    seen = []

    def scorer(detections, truths, max_det):
        seen.append((len(detections), [len(truth.labels) for truth in truths], max_det))
        return Scores(map50=0.1, map50_95=0.2, precision=0.3, recall=0.4, per_class={1: 0.5})

    accuracy = evaluate([Knowing()], spec(), data, ValConfig(max_det=7), scorer=scorer)
    assert seen == [(3, [1, 2, 1], 7)]
    assert (accuracy.map50, accuracy.per_class) == (0.1, {"bar": 0.5})


def test_progress_is_told_while_it_lasts(data, caplog, monkeypatch):
    monkeypatch.setattr("slimdeploy._progress.LOG_S", 0.0)
    with caplog.at_level(logging.INFO, logger="slimdeploy.accuracy"):
        evaluate([Knowing()], spec(), data, ValConfig(), name="tuned.onnx")
    assert [m.partition(",")[0] for m in caplog.messages] == [f"tuned.onnx: {n} of 3 images" for n in (1, 2)]

"""Rendered scenes: the same seed gives the same files, and labels tell what is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimdeploy.configs import SceneConfig
from slimdeploy.data import scenes
from slimdeploy.data.dataset import read_dataset
from slimdeploy.data.images import read_image
from slimdeploy.data.labels import label_path, read_boxes
from slimdeploy.data.scene_objects import CLASSES
from slimdeploy.data.scenes import Box, render, render_dataset
from slimdeploy.errors import OutputExists, UsageError

SMALL = SceneConfig(train=6, val=3, size_px=192)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return render_dataset(tmp_path_factory.mktemp("scenes") / "data", SMALL)


def hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_data_set_reads_as_one_and_says_that_it_is_rendered(data):
    dataset = read_dataset(data)
    assert (dataset.classes, dataset.rendered, dataset.name) == (CLASSES, True, "rendered scenes")
    assert {split: len(images) for split, images in dataset.splits.items()} == {"train": 6, "val": 3}


def test_the_same_seed_gives_the_same_files(data, tmp_path):
    again = render_dataset(tmp_path / "again", SMALL)
    assert hashes(again.parent) == hashes(data.parent)


def test_another_seed_gives_other_images():
    first, second = (render(SceneConfig(size_px=96, seed=seed), "train", 0)[0] for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_training_and_validation_images_differ():
    config = SceneConfig(size_px=96)
    assert not np.array_equal(render(config, "train", 0)[0], render(config, "val", 0)[0])


def test_an_image_does_not_depend_on_how_many_there_are(data):
    image, _ = render(SceneConfig(train=1, val=1, size_px=192), "train", 5)
    _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, scenes.JPEG_QUALITY])
    assert (data.parent / "images/train/00005.jpg").read_bytes() == jpeg.tobytes()


def test_every_class_appears(data):
    dataset = read_dataset(data)
    labels = {box[0] for image in dataset.images("train") for box in read_boxes(label_path(image), CLASSES)}
    assert labels == {0, 1, 2, 3}


def test_objects_are_as_large_as_seen_from_a_drone(data):
    dataset = read_dataset(data)
    boxes = [box for image in dataset.images("train") for box in read_boxes(label_path(image), CLASSES)]
    longest = np.array([max(box[3:]) * SMALL.size_px for box in boxes])
    assert len(boxes) > 40
    assert np.median(longest[[box[0] > 0 for box in boxes]]) > 2 * np.median(longest[[box[0] == 0 for box in boxes]])
    assert 8 <= np.median(longest[[box[0] == 0 for box in boxes]]) <= 14
    assert longest.max() <= 62


def test_visdrone_annotations_and_yolo_labels_tell_the_same_boxes(data):
    categories = {1: 0, 4: 1, 5: 2, 6: 3}
    for image in read_dataset(data).images("train"):
        annotations = image.parents[2] / "annotations" / "train" / f"{image.stem}.txt"
        rows = [[int(v) for v in row.split(",")] for row in annotations.read_text().splitlines()]
        assert all(len(row) == 8 for row in rows)
        scored = [(categories[row[5]], *row[:4]) for row in rows if row[4] == 1]
        labels = read_boxes(label_path(image), CLASSES)
        assert scored == [in_pixels(box) for box in labels]


def in_pixels(box):
    label, x, y, width, height = box
    shares = (x - width / 2, y - height / 2, width, height)
    return (label, *(round(share * SMALL.size_px) for share in shares))


def test_what_is_hardly_seen_is_an_ignored_region_and_no_label():
    hidden = Box(kind="car", ltwh=(0, 0, 20, 10), inside=1.0, visible=0.39)
    seen = Box(kind="car", ltwh=(0, 0, 20, 10), inside=0.7, visible=0.4)
    assert (hidden.labelled, seen.labelled) == (False, True)
    assert scenes._visdrone_row(hidden) == "0,0,20,10,0,0,0,2\n"
    assert scenes._visdrone_row(seen) == "0,0,20,10,1,4,1,1\n"


def test_boxes_are_cut_at_the_edges_and_tell_how_much_lies_inside():
    owners = np.zeros((100, 100), dtype=np.uint16)
    outline = np.array([[-10, 10], [9, 10], [9, 29], [-10, 29]])
    cv2.fillPoly(owners, [outline], 1)
    (box,) = scenes._boxes([("van", outline)], owners, 50)
    assert box.ltwh == (0, 5, 5, 10)
    assert (box.inside, box.visible) == pytest.approx((0.5, 0.5))


def test_what_another_thing_covers_counts_as_not_seen():
    owners = np.zeros((100, 100), dtype=np.uint16)
    below, above = (np.array([[x, 10], [x + 19, 10], [x + 19, 29], [x, 29]]) for x in (10, 15))
    cv2.fillPoly(owners, [below], 1)
    cv2.fillPoly(owners, [above], 2)
    boxes = scenes._boxes([("car", below), ("car", above)], owners, 50)
    assert [box.visible for box in boxes] == pytest.approx([0.25, 1.0])


def test_images_are_neither_flat_nor_burnt_out(data):
    for path in read_dataset(data).images("val"):
        image = read_image(path)
        assert image.shape == (192, 192, 3)
        assert image.std() > 15
        assert 20 < image.mean() < 225


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputExists):
        render_dataset(tmp_path / "mine", SMALL)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_rendering_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        render_dataset(tmp_path / "data", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"train": 0}, {"val": 0}, {"size_px": 32}, {"seed": -1}])
def test_a_config_that_makes_no_images_is_refused(wrong):
    with pytest.raises(UsageError):
        SceneConfig(**wrong)

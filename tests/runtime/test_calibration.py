"""Calibration images come from the training split alone, the same ones for the same seed, every class in its turn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from slimdeploy.data.calibration import NOTHING, as_record, choose
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import DataError


def write(folder, split, name, *labels):
    for place in ("images", "labels"):
        (folder / place / split).mkdir(parents=True, exist_ok=True)
    image = np.full((16, 16, 3), len(list((folder / "images" / split).iterdir())), np.uint8)
    cv2.imwrite(str(folder / "images" / split / f"{name}.png"), image)
    rows = "".join(f"{label} 0.5 0.5 0.2 0.2\n" for label in labels)
    (folder / "labels" / split / f"{name}.txt").write_text(rows, encoding="utf-8")


@pytest.fixture
def data(tmp_path):
    """20 images of cars, 3 of vans, 2 of nothing to train on, and 4 to score on."""
    for number in range(20):
        write(tmp_path, "train", f"car{number:02d}", 0)
    for number in range(3):
        write(tmp_path, "train", f"van{number}", 1)
    for number in range(2):
        write(tmp_path, "train", f"empty{number}")
    for number in range(4):
        write(tmp_path, "val", f"val{number}", 0)
    path = tmp_path / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: {0: car, 1: van}\n", encoding="utf-8")
    return path


def test_no_image_is_from_another_split(data):
    chosen = choose(read_dataset(data), 100, seed=0)
    assert len(chosen.images) == 25
    assert {path.parent.name for path in chosen.images} == {"train"}


def test_rare_classes_come_as_often_as_common_ones_while_they_last(data):
    assert choose(read_dataset(data), 6, seed=0).shown == {"car": 2, "van": 2, NOTHING: 2}
    assert choose(read_dataset(data), 12, seed=0).shown == {"car": 7, "van": 3, NOTHING: 2}


def test_a_seed_gives_the_same_images_again_and_another_seed_others(data):
    first, again, other = (choose(read_dataset(data), 8, seed=seed).images for seed in (1, 1, 2))
    assert first == again
    assert set(first) != set(other)


def test_the_record_covers_every_image_and_its_bytes(data):
    chosen = choose(read_dataset(data), 4, seed=0)
    record = as_record(chosen, chosen.hashes())
    assert (record["images"], record["split"], len(chosen.hashes())) == (4, "train", 4)
    cv2.imwrite(str(chosen.images[0]), np.full((16, 16, 3), 200, np.uint8))
    assert as_record(chosen, chosen.hashes())["sha256"] != record["sha256"]


def test_images_that_are_scored_on_are_passed_over(data):
    data.write_text(data.read_text("utf-8").replace("val: images/val", "val: [images/val, images/train]"), "utf-8")
    with pytest.raises(DataError, match=r"every training image of .* is in another split too"):
        choose(read_dataset(data), 4, seed=0)


def test_without_a_training_split_there_is_no_calibration(data):
    data.write_text(data.read_text("utf-8").replace("train: images/train\n", ""), "utf-8")
    with pytest.raises(DataError, match="has no split 'train'"):
        choose(read_dataset(data), 4, seed=0)

"""Every stage and ultralytics itself read a data set alike; where they do not, it is on purpose and in docs/data.md.

Each case is written twice: one copy for slimdeploy, and one for ultralytics, which may rewrite files and leaves caches.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import ROW, write_image, write_labelled, write_set, write_yaml
from PIL import Image
from torch import nn
from ultralytics.data import utils as ultralytics_data
from ultralytics.data.dataset import YOLODataset

from slimdeploy.accuracy.evaluate import evaluate
from slimdeploy.configs import DenseConfig, ValConfig
from slimdeploy.data.calibration import choose
from slimdeploy.data.dataset import Dataset, read_dataset
from slimdeploy.data.images import read_image
from slimdeploy.errors import DataError
from slimdeploy.records import ModelSpec
from slimdeploy.stages._trials import spread
from slimdeploy.yolo import progress, training
from slimdeploy.yolo.trainers import KeepingTrainer
from slimdeploy.yolo.training_data import write_lists

SPLITS = ("train", "val")
PLAIN = "train: images/train\nval: images/val\nnames: [car, van]\n"
POLYGON = "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n"

Seen = dict[str, tuple[tuple[float, ...], ...]]  # boxes by the image's name


def rounded(rows) -> tuple[tuple[float, ...], ...]:
    """Return boxes in an order of their own, as exact as float32 holds them."""
    return tuple(sorted(tuple(round(float(value), 5) for value in row) for row in rows))


def by_reader(dataset: Dataset, split: str) -> Seen:
    return {image.name: rounded(dataset.labels(image).boxes) for image in dataset.images(split)}


def by_val(dataset: Dataset, split: str) -> Seen:
    """Return what the scorer gets, its pixels turned back into shares."""
    kept = []

    class Blind:
        def run(self, feeds):
            return {"output0": np.zeros((1, 4 + len(dataset.classes), 21), dtype=np.float32)}

        def close(self):
            pass

    def scorer(detections, truths, most):
        from slimdeploy.accuracy import coco

        kept.extend(truths)
        return coco.score(detections, truths, most)

    spec = ModelSpec(task="detect", classes=dataset.classes, imgsz=(32, 32), batch=1)
    evaluate([Blind()], spec, dataset, ValConfig(split=split, imgsz=32), scorer=scorer)
    seen = {}
    for image, truth in zip(dataset.images(split), kept, strict=True):
        shares = truth.xyxy / (np.array(truth.size)[[1, 0, 1, 0]])
        centre, size = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
        seen[image.name] = rounded(np.concatenate([truth.labels[:, None], centre, size], axis=1))
    return seen


def by_training(dataset: Dataset, split: str, folder: Path) -> tuple[Seen, tuple[str, ...], list]:
    """Return what our trainer's own data set object holds, its classes, and each image's shape and pixels' shape."""
    folder.mkdir()
    progress.write_setup(folder, training.first_setup(DenseConfig(device="cpu"), None))
    write_lists(folder, dataset)
    trainer = KeepingTrainer(overrides=training._overrides(DenseConfig(device="cpu", imgsz=64), folder, None))
    trainer.model = nn.Module()
    trainer.model.stride = np.array([8, 16, 32])
    made = trainer.build_dataset(trainer.data[split], "train", 4)
    seen, shapes = as_seen(made)
    return seen, tuple(trainer.data["names"].values()), shapes


def as_seen(made: YOLODataset) -> tuple[Seen, list]:
    """Return boxes, with the number and the sum of the points of their outlines, and shapes as told and as loaded."""
    seen = {}
    for one in made.labels:
        outlines = [(len(points), points.sum()) for points in one["segments"]] or [(0, 0)] * len(one["cls"])
        rows = np.concatenate([one["cls"], one["bboxes"], np.array(outlines).reshape(-1, 2)], axis=1)
        seen[Path(one["im_file"]).name] = rounded(rows)
    shapes = [(tuple(one["shape"]), made.load_image(i)[1]) for i, one in enumerate(made.labels)]
    return seen, shapes


def boxes_of(seen: Seen) -> Seen:
    return {name: rounded(row[:5] for row in rows) for name, rows in seen.items()}


def by_ultralytics(yaml: Path, split: str) -> tuple[Seen, tuple[str, ...]]:
    data = ultralytics_data.check_det_dataset(yaml, autodownload=False)
    made = YOLODataset(img_path=data[split], data=data, imgsz=64, augment=False)
    return as_seen(made)[0], tuple(data["names"].values())


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(ultralytics_data, "check_font", lambda font: None)


def plain(folder):
    return write_set(folder)


def roboflow(folder):
    for split, place in (("train", "train"), ("val", "valid")):
        image = write_image(folder / place / "images" / f"{split}.jpg")
        labels = folder / place / "labels" / f"{split}.txt"
        labels.parent.mkdir()
        labels.write_text(ROW)
        assert image.exists()
    return write_yaml(folder, "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['car', 'van']\n")


def number_of_classes_alone(folder):
    write_set(folder)
    return write_yaml(folder, "train: images/train\nval: images/val\nnc: 2\n")


def quoted_numbers_and_validation(folder):
    write_set(folder)
    return write_yaml(folder, "train: images/train\nvalidation: images/val\nnames: {'0': car, '1': van}\n")


def byte_order_marks(folder):
    yaml = write_set(folder)
    labels = folder / "labels" / "train" / "0.txt"
    labels.write_bytes(b"\xef\xbb\xbf" + labels.read_bytes())
    (folder / "val.txt").write_bytes(b"\xef\xbb\xbf./images/val/0.jpg\n./images/val/1.jpg\n")
    yaml.write_text("\ufefftrain: images/train\nval: val.txt\nnames: [car, van]\n", encoding="utf-8")
    return yaml


def keypoints(values):
    def write(folder):
        write_set(folder)
        points = " 0.3 0.3 2"[: 4 * 2 + (2 if values == 3 else 0)] * 2
        write_labelled(folder, "train", "0.jpg", f"0 0.5 0.5 0.2 0.2{points}\n")
        return write_yaml(folder, f"{PLAIN}kpt_shape: [2, {values}]\n")

    return write


def polygons(folder):
    yaml = write_set(folder)
    for number in range(3):
        write_labelled(folder, "train", f"{number}.jpg", f"{POLYGON}0 0.6 0.6 0.9 0.6 0.9 0.9\n")
    return yaml


def hidden_files(folder):
    yaml = write_set(folder)
    write_image(folder / "images" / "train" / ".ipynb_checkpoints" / "0-checkpoint.jpg")
    (folder / "images" / "val" / "._0.jpg").write_bytes(b"Mac OS X")
    return yaml


def linked_subfolder(folder):
    yaml = write_set(folder)
    write_image(folder / "store" / "far.jpg")
    (folder / "images" / "val" / "flight").symlink_to(folder / "store")
    (folder / "labels" / "val" / "flight").mkdir()
    (folder / "labels" / "val" / "flight" / "far.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    return yaml


def every_format(folder):
    yaml = write_set(folder)
    for suffix in (".png", ".bmp", ".webp", ".tif", ".PNG"):
        image = write_labelled(folder, "val", f"as{suffix.lower()[1:]}{suffix.lower()}")
        image.rename(image.with_suffix(suffix))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    for suffix in (".avif", ".mpo", ".jp2"):
        place = folder / "images" / "val" / f"as{suffix[1:]}{suffix}"
        Image.fromarray(pixels).save(place)
        (folder / "labels" / "val" / f"as{suffix[1:]}.txt").write_text(ROW)
    return yaml


def turned_by_exif(folder):
    yaml = write_set(folder)
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (24, 48, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "webp"):
        Image.fromarray(pixels).save(folder / "images" / "train" / f"turned.{suffix}", exif=exif)
    return yaml


def left_out_images(folder):
    yaml = write_set(folder)
    write_image(folder / "images" / "train" / "thin.png", size=(9, 60))
    Image.new("P", (24, 24)).save(folder / "images" / "val" / "moving.gif")
    (folder / "images" / "val" / "moving.gif").rename(folder / "images" / "val" / "moving.jpg")
    return yaml


def odd_rows(folder):
    yaml = write_set(folder)
    rows = f"\r\n0.0 0.5 0.5 0.2 0.2\r\n\r\n1 1.005 0.5 0.2 0.2\r\n{ROW}1 1.005 0.5 0.2 0.2"
    write_labelled(folder, "train", "0.jpg", rows)
    write_labelled(folder, "train", "1.jpg", "")
    (folder / "labels" / "train" / "2.txt").unlink()
    return yaml


def absent_test_split(folder):
    write_set(folder)
    return write_yaml(folder, f"{PLAIN}test: images/test\n")


def bytes_behind_the_end(folder):
    yaml = write_set(folder)
    for image in (folder / "images" / "train").iterdir():
        image.write_bytes(image.read_bytes() + b"SEFT\0\0trailer")
    return yaml


def list_of_places(folder):
    write_set(folder)
    write_labelled(folder, "more", "more.jpg")
    (folder / "lists").mkdir()
    (folder / "val.txt").write_text("./images/val/0.jpg\n")
    return write_yaml(folder, "train: [images/train, images/more]\nval: [val.txt]\nnames: [car, van]\n")


ALIKE = [
    plain, roboflow, number_of_classes_alone, quoted_numbers_and_validation, byte_order_marks, keypoints(2),
    keypoints(3), polygons, hidden_files, linked_subfolder, every_format, turned_by_exif, left_out_images, odd_rows,
    absent_test_split, bytes_behind_the_end, list_of_places,
]  # fmt: skip


@pytest.mark.parametrize("write", ALIKE, ids=lambda write: write.__name__)
def test_every_stage_and_ultralytics_see_the_same_images_labels_and_classes(tmp_path, write):
    dataset = read_dataset(write(tmp_path / "ours"))
    theirs = write(tmp_path / "theirs")
    for split in SPLITS:
        seen, classes = by_ultralytics(theirs, split)
        trained, trained_classes, shapes = by_training(dataset, split, tmp_path / f"work-{split}")
        assert trained == seen
        assert by_reader(dataset, split) == by_val(dataset, split) == boxes_of(seen)
        assert dataset.classes == trained_classes == classes
        assert [shape for shape, _ in shapes] == [size for _, size in shapes]
    train = {image.name for image in dataset.images("train")}
    assert {image.name for image in spread(dataset, 1000)} == train
    assert {image.name for image in choose(dataset, 1000, seed=0).images} == train


@pytest.mark.parametrize("write", ALIKE, ids=lambda write: write.__name__)
def test_val_and_training_see_the_same_pixels(tmp_path, write):
    from ultralytics.utils.patches import imread

    dataset = read_dataset(write(tmp_path))
    for image in (path for split in SPLITS for path in dataset.images(split)):
        assert np.array_equal(read_image(image), imread(image, flags=cv2.IMREAD_COLOR))


def path_of_the_working_directory(folder):
    """ultralytics takes `path` and lists to be relative to the working directory."""
    write_set(folder)
    return write_yaml(folder, f"path: .\n{PLAIN}")


def lists_of_cvat(folder):
    write_set(folder)
    (folder / "train.txt").write_text("data/images/train/0.jpg\n")
    return write_yaml(folder, "train: train.txt\nval: images/val\nnames: [car, van]\n")


def linked_split_with_labels_beside_the_link(folder):
    """ultralytics looks for labels beside what the split leads to, and takes the images for empty ones."""
    write_set(folder)
    (folder / "images" / "train").rename(folder / "store")
    (folder / "images" / "train").symlink_to(folder / "store")
    return write_yaml(folder)


def mixed_rows(folder):
    """ultralytics leaves the image out of training."""
    yaml = write_set(folder)
    write_labelled(folder, "train", "0.jpg", f"{ROW}{POLYGON}")
    return yaml


MORE = [path_of_the_working_directory, lists_of_cvat, linked_split_with_labels_beside_the_link, mixed_rows]


@pytest.mark.parametrize("write", MORE, ids=lambda write: write.__name__)
def test_every_stage_sees_boxes_that_ultralytics_does_not(tmp_path, monkeypatch, write):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    dataset, theirs = read_dataset(write(tmp_path / "ours")), write(tmp_path / "theirs")
    own = by_reader(dataset, "train")
    assert own == boxes_of(by_training(dataset, "train", tmp_path / "work")[0]) == by_val(dataset, "train")
    assert all(own.values())
    try:
        seen = by_ultralytics(theirs, "train")[0]
    except (FileNotFoundError, RuntimeError):
        seen = {}
    assert sum(map(len, own.values())) > sum(map(len, seen.values()))


def damaged(write_damage):
    def write(folder):
        yaml = write_set(folder)
        write_damage(folder)
        return yaml

    write.__name__ = write_damage.__name__
    return write


def cut_short(folder):
    image = write_image(folder / "images" / "train" / "0.jpg", size=(100, 100))
    image.write_bytes(image.read_bytes()[:-500])


def page_for_an_image(folder):
    (folder / "images" / "train" / "0.jpg").write_text("<html>404</html>")


def no_number_in_a_label(folder):
    write_labelled(folder, "train", "0.jpg", "0 nan 0.5 0.2 0.2\n")


def class_beyond_the_names(folder):
    write_labelled(folder, "train", "0.jpg", "7 0.5 0.5 0.2 0.2\n")


def labels_in_another_encoding(folder):
    (folder / "labels" / "train" / "0.txt").write_bytes(b"\xff\xfe0 \x00")


def scores_behind_boxes(folder):
    write_labelled(folder, "train", "0.jpg", "0 0.5 0.5 0.2 0.2 0.9\n")


DAMAGED = [
    cut_short, page_for_an_image, no_number_in_a_label, class_beyond_the_names, labels_in_another_encoding,
    scores_behind_boxes,
]  # fmt: skip


@pytest.mark.parametrize("write", list(map(damaged, DAMAGED)), ids=lambda write: write.__name__)
def test_what_ultralytics_drops_as_damaged_is_refused_by_every_stage(tmp_path, write):
    with pytest.raises(DataError, match=r"0\.(jpg|txt)"):
        read_dataset(write(tmp_path / "ours"))
    assert "0.jpg" not in by_ultralytics(write(tmp_path / "theirs"), "train")[0]


def test_two_classes_of_one_name_are_refused_where_ultralytics_takes_them(tmp_path):
    write_set(tmp_path)
    yaml = write_yaml(tmp_path, "train: images/train\nval: images/val\nnames: [car, car]\n")
    with pytest.raises(DataError, match="both 'car'"):
        read_dataset(yaml)
    assert by_ultralytics(yaml, "train")[1] == ("car", "car")


def test_training_changes_no_file_of_the_user_and_leaves_none(tmp_path):
    dataset = read_dataset(bytes_behind_the_end(tmp_path / "set"))
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    by_training(dataset, "train", tmp_path / "work")
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == before


def test_an_array_beside_an_image_is_not_taken_for_its_pixels(tmp_path):
    yaml = write_set(tmp_path / "set")
    array = tmp_path / "set" / "images" / "train" / "0.npy"
    np.save(array, np.zeros((5, 5, 3), dtype=np.uint8))
    os.utime(array, (2**31, 2**31))
    _, _, shapes = by_training(read_dataset(yaml), "train", tmp_path / "work")
    assert {size for _, size in shapes} == {(24, 32)}

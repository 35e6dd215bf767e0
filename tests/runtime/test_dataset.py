"""Data sets that are wrong in every way that ultralytics would swallow, and the message each one gets."""

from __future__ import annotations

import pytest

from slimdeploy.data.dataset import label_path, read_dataset, read_labels
from slimdeploy.data.images import read_image
from slimdeploy.errors import DataError

CLASSES = ("car", "van")


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    (tmp_path / "images" / "val" / "one.jpg").write_bytes(b"not opened here")
    (tmp_path / "labels" / "val" / "one.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    write_yaml(tmp_path)
    return tmp_path


def write_yaml(folder, text="val: images/val\nnames: {0: car, 1: van}\n"):
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def write_labels(folder, text):
    (folder / "labels" / "val" / "one.txt").write_text(text, encoding="utf-8")


def test_a_data_set_tells_its_name_classes_and_images(folder):
    dataset = read_dataset(folder / "data.yaml")
    assert (dataset.name, dataset.classes, dataset.rendered) == (folder.name, CLASSES, False)
    assert [image.name for image in dataset.images("val")] == ["one.jpg"]


def test_a_data_set_can_say_that_it_is_rendered(folder):
    write_yaml(folder, "val: images/val\nnames: [car, van]\nslimdeploy_name: scenes\nslimdeploy_rendered: true\n")
    dataset = read_dataset(folder / "data.yaml")
    assert (dataset.name, dataset.rendered) == ("scenes", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("names: [car]\n", "names no images", id="no splits"),
        pytest.param("val: images/val\n", "names no classes", id="no classes"),
        pytest.param("val: images/val\nnames: {0: car, 2: van}\n", "names no classes", id="a gap in the classes"),
        pytest.param("val: nowhere\nnames: [car, van]\n", "nowhere, which is not there", id="a folder that is missing"),
        pytest.param("val: labels/val\nnames: [car, van]\n", "holds no images", id="a folder without images"),
        pytest.param("val: [unclosed\n", "is no YAML", id="no YAML"),
        pytest.param("just words\n", "is no data set", id="no mapping"),
    ],
)
def test_a_wrong_yaml_is_named(folder, text, message):
    write_yaml(folder, text)
    with pytest.raises(DataError, match=message):
        read_dataset(folder / "data.yaml")


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no data set at .*gone\.yaml"):
        read_dataset(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("2 0.5 0.5 0.2 0.2", "names class 2; wanted: 0 to 1", id="a class too high"),
        pytest.param("-1 0.5 0.5 0.2 0.2", "names class -1", id="a class below zero"),
        pytest.param("0.5 0.5 0.5 0.2 0.2", "names class 0.5", id="half a class"),
        pytest.param("car 0.5 0.5 0.2 0.2", "holds 'car", id="a word for a class"),
        pytest.param("0 0.5 0.5 0.2", "four shares", id="a column too few"),
        pytest.param("0 320 240 64 48", "four shares", id="pixels where shares belong"),
        pytest.param("0 nan 0.5 0.2 0.2", "four shares", id="not a number"),
        pytest.param("inf 0.5 0.5 0.2 0.2", "names class inf", id="an endless class"),
    ],
)
def test_a_wrong_label_is_named_with_its_line(folder, row, message):
    write_labels(folder, f"0 0.5 0.5 0.2 0.2\n{row}\n")
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(folder / "data.yaml")
    assert "one.txt:2" in str(caught.value)


def test_labels_that_are_no_text_are_named(folder):
    (folder / "labels" / "val" / "one.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"one\.txt is no text"):
        read_dataset(folder / "data.yaml")


def test_an_empty_image_is_named_and_not_left_out(folder):
    (folder / "images" / "val" / "two.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"two\.jpg is empty"):
        read_dataset(folder / "data.yaml")


def test_a_list_of_images_may_hold_spaces_and_names_what_is_missing(folder):
    (folder / "images" / "val" / "two words.jpg").write_bytes(b"not opened here")
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    (folder / "list.txt").write_text("images/val/one.jpg\n./images/val/two words.jpg\n", encoding="utf-8")
    assert [image.name for image in read_dataset(folder / "data.yaml").images("val")] == ["one.jpg", "two words.jpg"]
    (folder / "list.txt").write_text("images/val/gone.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no image at .*gone\.jpg"):
        read_dataset(folder / "data.yaml")


def test_a_split_that_is_missing_is_named(folder):
    with pytest.raises(DataError, match="no split 'train'; wanted: one of val"):
        read_dataset(folder / "data.yaml").images("train")


def test_other_classes_of_a_network_are_named(folder):
    with pytest.raises(DataError, match="the network's classes"):
        read_dataset(folder / "data.yaml").require_classes(("car", "bus"))


def test_an_image_without_a_label_file_holds_nothing(folder):
    (folder / "labels" / "val" / "one.txt").unlink()
    assert read_labels(label_path(read_dataset(folder / "data.yaml").images("val")[0]), CLASSES) == []


def test_a_polygon_gives_the_box_around_it(folder):
    write_labels(folder, "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n")
    (box,) = read_labels(folder / "labels" / "val" / "one.txt", CLASSES)
    assert box == pytest.approx((1, 0.3, 0.4, 0.4, 0.4))


@pytest.mark.parametrize("values", [pytest.param(3, id="with visibility"), pytest.param(2, id="without")])
def test_keypoints_behind_a_box_are_no_polygon(folder, values):
    write_yaml(folder, f"val: images/val\nnames: [car, van]\nkpt_shape: [2, {values}]\n")
    write_labels(folder, "1 0.5 0.4 0.2 0.1" + " 0.9 0.9 2"[: 4 * values] * 2 + "\n")
    dataset = read_dataset(folder / "data.yaml")
    (box,) = read_labels(label_path(dataset.images("val")[0]), CLASSES, keypoint_columns=dataset.keypoint_columns)
    assert box == (1, 0.5, 0.4, 0.2, 0.1)


def test_a_kpt_shape_that_is_none_is_refused(folder):
    write_yaml(folder, "val: images/val\nnames: [car, van]\nkpt_shape: 17\n")
    with pytest.raises(DataError, match=r"kpt_shape 17; wanted: keypoints and values of each, as \[17, 3\]"):
        read_dataset(folder / "data.yaml")


def test_a_row_that_stands_twice_gives_one_box_as_in_ultralytics(folder):
    write_labels(folder, "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n")
    assert [box[0] for box in read_labels(folder / "labels" / "val" / "one.txt", CLASSES)] == [0, 1]


def test_labels_lie_in_the_folder_called_labels_beside_the_last_one_called_images(tmp_path):
    image = tmp_path / "images" / "set" / "images" / "val" / "one.jpg"
    assert label_path(image) == tmp_path / "images" / "set" / "labels" / "val" / "one.txt"


def test_the_hash_changes_with_a_label_and_with_nothing_else(folder):
    first = read_dataset(folder / "data.yaml").as_input()
    assert read_dataset(folder / "data.yaml").as_input() == first
    write_labels(folder, "1 0.5 0.5 0.2 0.2\n")
    assert read_dataset(folder / "data.yaml").as_input().sha256 != first.sha256


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut off"], ids=["empty", "truncated"])
def test_an_image_that_does_not_decode_is_an_error(tmp_path, content):
    path = tmp_path / "one.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"one\.jpg is damaged"):
        read_image(path)


def test_an_image_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")

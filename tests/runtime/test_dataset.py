"""Data sets as tools write them, and those that are wrong in every way that ultralytics would swallow."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from data_sets import CLASSES, ROW, write_image, write_labelled, write_yaml

from slimdeploy.data.dataset import read_dataset
from slimdeploy.data.images import read_image
from slimdeploy.data.labels import label_path
from slimdeploy.errors import DataError


@pytest.fixture
def folder(tmp_path):
    write_labelled(tmp_path, "val", "one.jpg")
    write_yaml(tmp_path, "val: images/val\nnames: {0: car, 1: van}\n")
    return tmp_path


def write_labels(folder, text):
    (folder / "labels" / "val" / "one.txt").write_text(text, encoding="utf-8")


def boxes_of(folder):
    dataset = read_dataset(folder / "data.yaml")
    return list(dataset.labels(dataset.images("val")[0]).boxes)


def names_of(folder, split="val"):
    return [image.name for image in read_dataset(folder / "data.yaml").images(split)]


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
        pytest.param("val: images/val\nnames:\n", "names no classes", id="empty names"),
        pytest.param("val: images/val\nnames: car\n", "names no classes", id="names that are one word"),
        pytest.param(
            "val: images/val\nnames: {0: car, 2: van}\n", r"numbers its classes \[0, 2\]", id="a gap in the classes"
        ),
        pytest.param("val: images/val\nnames: {0: a, x: b}\n", "numbers its classes", id="a class numbered by a word"),
        pytest.param("val: images/val\nnames: [[a], b]\n", "class 0 is named", id="a class named by a list"),
        pytest.param("val: images/val\nnames: [~, b]\n", "class 0 is named None", id="a class without a name"),
        pytest.param("val: images/val\nnames: [car, car]\n", "classes 0 and 1 both 'car'", id="a name twice"),
        pytest.param('val: images/val\nnames: ["a\\nb", c]\n', r"named 'a\\nb'", id="a line break in a name"),
        pytest.param('val: images/val\nnames: ["a\\u202Eb", c]\n', r"u202e", id="text that turns around"),
        pytest.param("val: images/val\nnc: 3\nnames: [car, van]\n", "nc 3 and 2 names", id="nc and names differ"),
        pytest.param("val: images/val\nnc: 1.5\nnames: [car, van]\n", "nc 1.5", id="half a class"),
        pytest.param("val: images/val\nnc: 1000000000\n", "nc 1000000000", id="a billion classes"),
        pytest.param("val: nowhere\nnames: [car, van]\n", "nowhere, which is not there", id="a folder that is missing"),
        pytest.param("val: images/v*\nnames: [car, van]\n", "patterns are not taken", id="a pattern"),
        pytest.param("val: labels/val\nnames: [car, van]\n", "holds no images", id="a folder without images"),
        pytest.param('val: "a\\0b"\nnames: [car, van]\n', r"names 'a\\x00b'", id="NUL in a path"),
        pytest.param("val: 5\nnames: [car, van]\n", "the val split names 5", id="a number for a folder"),
        pytest.param("val: [images/val, {a: b}]\nnames: [car, van]\n", "the val split names", id="a mapping in a list"),
        pytest.param("path: [a]\nval: images/val\nnames: [car, van]\n", "has the path", id="a list for the path"),
        pytest.param("channels: 1\nval: images/val\nnames: [car, van]\n", "channels 1", id="grey images"),
        pytest.param("val: [unclosed\n", "is no YAML: line 2", id="no YAML"),
        pytest.param("just words\n", "is no data set", id="no mapping"),
        pytest.param("val: 2001-99-99\n", "is no YAML", id="a date that is none"),
        pytest.param("val: !!int x\n", "is no YAML", id="a number that is none"),
        pytest.param("val: !!bool x\n", "is no YAML", id="a truth that is none"),
        pytest.param("val: !!timestamp x\n", "is no YAML", id="a time that is none"),
        pytest.param("val: !!python/object/apply:os.system [true]\n", "is no YAML", id="a call"),
        pytest.param(f"val: {'[' * 5000}\n", "nest", id="deep brackets"),
        pytest.param("a: &a {b: c}\nd: {<<: *a}\n", "merges keys", id="a merge key"),
        pytest.param(f"val: images/val\nnames: [{'9' * 5000}]\n", "is no YAML", id="an endless number"),
    ],
)
def test_a_wrong_yaml_is_named_in_one_line(folder, text, message):
    write_yaml(folder, text)
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(folder / "data.yaml")
    assert "data.yaml" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["kpt_shape", "names", "val", "path", "nc", "slimdeploy_name", "slimdeploy_tile"])
def test_nested_aliases_take_no_memory_and_make_no_long_message(folder, key):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else '1'}]" for i in range(12)]
    write_yaml(folder, "\n".join([*levels, "val: images/val", "names: [car, van]", f"{key}: *a11", ""]))
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            read_dataset(folder / "data.yaml")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("val: images/val\nnames:\n  '0': car\n  '1': van\n", id="quoted numbers"),
        pytest.param("validation: images/val\nnames: [car, van]\n", id="the key validation"),
        pytest.param("\ufeffval: images/val\nnames: [car, van]\n", id="a byte-order mark"),
        pytest.param("val: images/val\nnames: [car, van]\nnc: '2'\n", id="a quoted nc"),
        pytest.param("val: images/val\nnames: [car, van]\nnc: 2.0\n", id="nc as 2.0"),
        pytest.param("val: [images/val]\nnames: [car, van]\n", id="a list of folders"),
        pytest.param("val: images/val/one.jpg\nnames: [car, van]\n", id="a single image"),
        pytest.param("val: ../images/val\nnames: [car, van]\n", id="Roboflow's way up"),
        pytest.param("path: .\nval: images/val\nnames: [car, van]\n", id="path as the YAML's folder"),
        pytest.param("val: images\\val\nnames: [car, van]\n", id="a path of Windows"),
        pytest.param("val: images/val\ntest: images/test\nnames: [car, van]\n", id="a test split that is not there"),
        pytest.param("train: images/train\nval: images/val\nnames: [car, van]\n", id="a train split that is not there"),
        pytest.param("val: images/val\nnames: [car, van]\ndownload: exit(1)\n", id="a script to run"),
    ],
)
def test_forms_that_ultralytics_reads_name_the_same_split_and_classes(folder, text):
    write_yaml(folder, text)
    assert (names_of(folder), read_dataset(folder / "data.yaml").classes) == (["one.jpg"], CLASSES)


def test_a_number_of_classes_alone_names_them_as_ultralytics_does(folder):
    write_yaml(folder, "val: images/val\nnc: 2\n")
    assert read_dataset(folder / "data.yaml").classes == ("class_0", "class_1")


def test_a_path_is_relative_to_the_yaml_and_not_to_the_working_directory(folder, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_labelled(elsewhere, "val", "other.jpg")
    write_yaml(folder, "path: .\nval: images/val\nnames: [car, van]\n")
    monkeypatch.chdir(elsewhere)
    assert names_of(folder) == ["one.jpg"]


def test_a_comment_in_another_encoding_is_told_and_read(folder, caplog):
    (folder / "data.yaml").write_bytes(b"# caf\xe9\nval: images/val\nnames: [car, van]\n")
    assert read_dataset(folder / "data.yaml").classes == CLASSES
    assert "is no UTF-8; read nevertheless" in caplog.text


def test_a_class_name_in_another_encoding_is_refused(folder):
    (folder / "data.yaml").write_bytes(b"val: images/val\nnames: [v\xe9lo, van]\n")
    with pytest.raises(DataError, match=r"data\.yaml:2 is no UTF-8"):
        read_dataset(folder / "data.yaml")


def test_a_missing_yaml_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no data set at .*gone\.yaml"):
        read_dataset(tmp_path / "gone.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_is_no_yaml(tmp_path):
    os.mkfifo(tmp_path / "data.yaml")
    with pytest.raises(DataError, match="no data set at"):
        read_dataset(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("2 0.5 0.5 0.2 0.2", "names class 2; wanted: 0 to 1", id="a class too high"),
        pytest.param("-1 0.5 0.5 0.2 0.2", "names class -1", id="a class below zero"),
        pytest.param("0.5 0.5 0.5 0.2 0.2", "names class 0.5", id="half a class"),
        pytest.param("car 0.5 0.5 0.2 0.2", "holds 'car", id="a word for a class"),
        pytest.param("0 0.5 0.5 0.2", "four shares", id="a column too few"),
        pytest.param("0 0.5 0.5 0.2 0.2 0.9", "six columns", id="a score behind the box"),
        pytest.param("0 320 240 64 48", "four shares", id="pixels where shares belong"),
        pytest.param("0 nan 0.5 0.2 0.2", "four shares", id="not a number"),
        pytest.param("0 0.5 0.5 0.2 inf", "four shares", id="an endless height"),
        pytest.param("0 0.1 0.1 nan 0.1 0.2 0.2", "four shares", id="not a number in a polygon"),
        pytest.param("0 0.5 0.5 -0.005 0.2", "a width and a height of 0 or more", id="a width below zero"),
        pytest.param("inf 0.5 0.5 0.2 0.2", "names class inf", id="an endless class"),
        pytest.param("nan 0.5 0.5 0.2 0.2", "names class nan", id="a class that is not a number"),
    ],
)
def test_a_wrong_label_is_named_with_its_line(folder, row, message):
    write_labels(folder, f"{ROW}{row}\n")
    with pytest.raises(DataError, match=message) as caught:
        read_dataset(folder / "data.yaml")
    assert "one.txt:2" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeff0 0.5 0.5 0.2 0.2\n", id="a byte-order mark"),
        pytest.param("0.0 0.5 0.5 0.2 0.2\n", id="a class with a point"),
        pytest.param("0 0.5 0.5 0.2 0.2\r\n", id="line ends of Windows"),
        pytest.param("\n\n0 0.5 0.5 0.2 0.2\n\n", id="blank lines"),
        pytest.param("0\t0.5  0.5 0.2 0.2", id="tabs and no line end"),
    ],
)
def test_rows_in_other_forms_give_the_same_box(folder, text):
    write_labels(folder, text)
    assert boxes_of(folder) == [(0, 0.5, 0.5, 0.2, 0.2)]


def test_labels_that_are_no_text_are_named(folder):
    (folder / "labels" / "val" / "one.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=r"one\.txt is no text"):
        read_dataset(folder / "data.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"<html>404</html>", "is no image", id="a page"),
        pytest.param(b"\xff\xd8\xff\xe0 cut off", "is damaged", id="a JPEG's first bytes"),
    ],
)
def test_an_image_that_is_none_is_named_and_not_left_out(folder, content, message):
    (folder / "images" / "val" / "two.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"two\.jpg {message}"):
        read_dataset(folder / "data.yaml")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_an_image_cut_short_is_named(folder, suffix):
    image = write_image(folder / "images" / "val" / f"two{suffix}", size=(200, 200))
    image.write_bytes(image.read_bytes()[:-2000])
    with pytest.raises(DataError, match=rf"two\{suffix} is damaged"):
        read_dataset(folder / "data.yaml")


def test_bytes_behind_a_jpegs_end_are_no_damage(folder):
    image = folder / "images" / "val" / "one.jpg"
    image.write_bytes(image.read_bytes() + b"SEFT\0\0trailer")
    assert names_of(folder) == ["one.jpg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_among_the_images_is_refused_and_never_waited_for(folder):
    os.mkfifo(folder / "images" / "val" / "two.jpg")
    with pytest.raises(DataError, match=r"two\.jpg is no file"):
        read_dataset(folder / "data.yaml")


def test_what_ultralytics_leaves_out_is_left_out_counted_and_told_once(folder, caplog):
    write_labelled(folder, "val", "thin.png")
    write_image(folder / "images" / "val" / "thin.png", size=(200, 9))
    (folder / "images" / "val" / "moving.jpg").write_bytes(b"GIF89a" + bytes(60))
    (folder / "images" / "val" / "old.ppm").write_bytes(b"P6 1 1 255 abc")
    (folder / "images" / "val" / "new.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    dataset = read_dataset(folder / "data.yaml")
    read_dataset(folder / "data.yaml")
    assert [image.name for image in dataset.images("val")] == ["one.jpg"]
    kinds = dataset.as_input().as_record()["left_out"]
    assert {why: kind["first"] for why, kind in kinds.items()} == {
        "the format .ppm, which is not trained on": ["val/old.ppm"],
        "GIF inside, which is not trained on": ["val/moving.jpg"],
        "HEIF inside, which is not trained on": ["val/new.heic"],
        "a side below 10 px": ["val/thin.png"],
    }
    assert caplog.text.count("4 images are left out everywhere") == 1
    assert "1 with a side below 10 px: val/thin.png" in caplog.text


def test_a_split_of_which_nothing_is_left_says_why(folder):
    write_image(folder / "images" / "val" / "one.jpg", size=(9, 9))
    with pytest.raises(DataError, match=r"all are left out \(1 with a side below 10 px: val/one.jpg\)"):
        read_dataset(folder / "data.yaml")


def test_a_hash_without_left_out_images_reads_as_it_did_before(folder):
    assert set(read_dataset(folder / "data.yaml").as_input().as_record()) == {"name", "sha256"}


@pytest.mark.parametrize("name", [".ipynb_checkpoints/one-checkpoint.jpg", "._one.jpg", ".trash/deep/two.jpg"])
def test_hidden_files_are_no_part_of_a_split(folder, name):
    write_image(folder / "images" / "val" / name)
    assert names_of(folder) == ["one.jpg"]


def test_suffixes_may_be_written_in_capitals(folder):
    write_image(folder / "images" / "val" / "two.png").rename(folder / "images" / "val" / "TWO.PNG")
    assert names_of(folder) == ["TWO.PNG", "one.jpg"]


def test_linked_folders_are_followed_and_their_labels_found_beside_the_link(folder):
    store = folder / "store"
    write_image(store / "two.jpg")
    (folder / "images" / "val" / "flight").symlink_to(store)
    (folder / "labels" / "val" / "flight").mkdir()
    (folder / "labels" / "val" / "flight" / "two.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    dataset = read_dataset(folder / "data.yaml")
    found = {image.name: dataset.labels(image).boxes[0][0] for image in dataset.images("val")}
    assert found == {"one.jpg": 0, "two.jpg": 1}


def test_labels_beside_what_a_linked_split_leads_to_are_found(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_labelled(other, "flight", "two.jpg", "1 0.5 0.5 0.1 0.1\n")
    (folder / "images" / "linked").symlink_to(other / "images" / "flight")
    write_yaml(folder, "val: images/linked\nnames: [car, van]\n")
    assert [box[0] for box in boxes_of(folder)] == [1]


def test_a_link_into_the_folder_that_holds_it_is_walked_once(folder):
    (folder / "images" / "val" / "again").symlink_to(folder / "images")
    assert names_of(folder) == ["one.jpg"]


def test_a_link_that_leads_nowhere_is_a_missing_image(folder):
    (folder / "images" / "val" / "two.jpg").symlink_to(folder / "gone.jpg")
    with pytest.raises(DataError, match=r"two\.jpg is not there"):
        read_dataset(folder / "data.yaml")


def test_a_list_of_images_may_hold_spaces_and_names_what_is_missing(folder):
    write_image(folder / "images" / "val" / "two words.jpg")
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    (folder / "list.txt").write_text("images/val/one.jpg\n./images/val/two words.jpg\n", encoding="utf-8")
    assert names_of(folder) == ["one.jpg", "two words.jpg"]
    (folder / "list.txt").write_text("images/val/gone.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gone\.jpg is not there"):
        read_dataset(folder / "data.yaml")


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("data/images/val/one.jpg", id="as CVAT writes it"),
        pytest.param("./images/val/one.jpg", id="from the list's folder"),
        pytest.param("\ufeffimages/val/one.jpg", id="behind a byte-order mark"),
        pytest.param("images\\val\\one.jpg", id="of Windows"),
        pytest.param("  images/val/one.jpg \t", id="between spaces"),
        pytest.param("images/val/one.jpg\r", id="with line ends of Windows"),
    ],
)
def test_lists_name_images_in_the_forms_that_tools_write(folder, line):
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    (folder / "list.txt").write_bytes(f"{line}\n".encode())
    assert names_of(folder) == ["one.jpg"]


def test_lists_are_relative_to_the_data_set_where_they_lie_deeper(folder):
    (folder / "lists").mkdir()
    (folder / "lists" / "val.list").write_text("images/val/one.jpg\n")
    write_yaml(folder, "val: lists/val.list\nnames: [car, van]\n")
    assert names_of(folder) == ["one.jpg"]


def test_a_list_that_is_no_text_is_named(folder):
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00\x80")
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    with pytest.raises(DataError, match=r"list\.txt is no text"):
        read_dataset(folder / "data.yaml")


@pytest.mark.parametrize("line", ["a\0b.jpg", "a\x1b[31m.jpg"])
def test_control_characters_in_a_list_are_refused_and_shown_escaped(folder, line):
    (folder / "list.txt").write_text(line)
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    with pytest.raises(DataError, match=r"list\.txt:1 holds") as caught:
        read_dataset(folder / "data.yaml")
    assert str(caught.value).isprintable()


def test_an_image_listed_twice_counts_twice_as_in_ultralytics(folder):
    (folder / "list.txt").write_text("images/val/one.jpg\nimages/val/one.jpg\n")
    write_yaml(folder, "val: list.txt\nnames: [car, van]\n")
    assert names_of(folder) == ["one.jpg", "one.jpg"]


def test_a_split_that_is_missing_is_named(folder):
    with pytest.raises(DataError, match="no split 'train'; wanted: one of val"):
        read_dataset(folder / "data.yaml").images("train")


def test_a_split_that_is_named_but_not_there_is_told_and_stops_what_asks_for_it(folder, caplog):
    write_yaml(folder, "val: images/val\ntest: images/test\nnames: [car, van]\n")
    dataset = read_dataset(folder / "data.yaml")
    assert "the test split names" in caplog.text
    with pytest.raises(DataError, match=r"images/test, which is not there"):
        dataset.images("test")


def test_other_classes_of_a_network_are_told_by_their_number_and_the_first_that_differ(folder):
    theirs = ("car", *(f"c{number}" for number in range(80)))
    with pytest.raises(DataError, match=r"2 classes, not 81, class 1 is 'van', not 'c0'") as caught:
        read_dataset(folder / "data.yaml").require_classes(theirs)
    assert len(str(caught.value)) < 500


def test_a_training_needs_boxes_to_learn(folder):
    write_labelled(folder, "train", "two.jpg", "")
    write_yaml(folder)
    with pytest.raises(DataError, match=r"the train split of .* has no labels"):
        read_dataset(folder / "data.yaml").require_trainable()


def test_an_image_without_a_label_file_holds_nothing(folder):
    (folder / "labels" / "val" / "one.txt").unlink()
    assert boxes_of(folder) == []


def test_a_polygon_gives_the_box_around_it(folder):
    write_labels(folder, "1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n")
    assert boxes_of(folder)[0] == pytest.approx((1, 0.3, 0.4, 0.4, 0.4))


def test_polygons_and_boxes_may_stand_in_one_file(folder):
    write_labels(folder, f"1 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6\n{ROW}")
    dataset = read_dataset(folder / "data.yaml")
    labels = dataset.labels(dataset.images("val")[0])
    assert ([box[0] for box in labels.boxes], labels.polygons) == ([1, 0], ())


@pytest.mark.parametrize("values", [pytest.param(3, id="with visibility"), pytest.param(2, id="without")])
def test_keypoints_behind_a_box_are_no_polygon(folder, values):
    write_yaml(folder, f"val: images/val\nnames: [car, van]\nkpt_shape: [2, {values}]\n")
    write_labels(folder, "1 0.5 0.4 0.2 0.1" + " 0.9 0.9 2"[: 4 * values] * 2 + "\n")
    assert boxes_of(folder) == [(1, 0.5, 0.4, 0.2, 0.1)]


@pytest.mark.parametrize("shape", ["17", "[17, 4]", "[a, 3]", "[true, 2]", "[-1, 2]"])
def test_a_kpt_shape_that_is_none_is_refused(folder, shape):
    write_yaml(folder, f"val: images/val\nnames: [car, van]\nkpt_shape: {shape}\n")
    with pytest.raises(DataError, match=r"kpt_shape .*; wanted: keypoints and values of each, as \[17, 3\]"):
        read_dataset(folder / "data.yaml")


def test_a_row_that_stands_twice_gives_one_box_as_in_ultralytics(folder):
    write_labels(folder, f"{ROW}1 0.5 0.5 0.2 0.2\n{ROW}")
    assert [box[0] for box in boxes_of(folder)] == [0, 1]


def test_labels_lie_in_the_folder_called_labels_beside_the_last_one_called_images(tmp_path):
    image = tmp_path / "images" / "set" / "images" / "val" / "one.jpg"
    assert label_path(image) == tmp_path / "images" / "set" / "labels" / "val" / "one.txt"


def test_the_hash_changes_with_a_label_and_with_nothing_else(folder):
    first = read_dataset(folder / "data.yaml").as_input()
    assert read_dataset(folder / "data.yaml").as_input() == first
    write_labels(folder, "1 0.5 0.5 0.2 0.2\n")
    assert read_dataset(folder / "data.yaml").as_input().sha256 != first.sha256


def test_the_hash_of_an_ordinary_data_set_is_that_of_older_releases(tmp_path):
    """It tells which outcomes of a recipe are whole already, so an upgrade must not change it."""
    data = tmp_path / "set"
    write_labelled(data, "val", "one.jpg")
    (data / "images" / "val" / "one.jpg").write_bytes(
        (Path(data / "images" / "val" / "one.jpg").read_bytes() + bytes(5000))[:5000]
    )
    write_yaml(data, "val: images/val\nnames: {0: car, 1: van}\n")
    known = "1c898ff17223cd7a478e400068c3f2bf12adcca37dd88e2b17552b95f0c28dd9"
    assert read_dataset(data / "data.yaml").as_input().sha256 == known


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut off"], ids=["empty", "truncated"])
def test_an_image_that_does_not_decode_is_an_error(tmp_path, content):
    path = tmp_path / "one.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"one\.jpg is damaged"):
        read_image(path)


def test_an_image_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")

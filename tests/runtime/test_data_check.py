"""`slimdeploy data check`: all that is broken at once, and what is odd."""

from __future__ import annotations

import json
import shutil

import pytest
from data_sets import write_image, write_labelled, write_set, write_yaml
from typer.testing import CliRunner

from slimdeploy.cli import app
from slimdeploy.data.check import check


@pytest.fixture
def data(tmp_path):
    return write_set(tmp_path / "set")


def run(*arguments):
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])


def test_splits_classes_and_sizes_are_counted(data):
    picture = check(data)
    assert {name: (split.images, split.boxes) for name, split in picture.splits.items()} == {
        "train": (3, 3),
        "val": (3, 3),
    }
    assert [(one.name, one.boxes, one.small) for one in picture.classes] == [
        ("car", {"train": 2, "val": 2}, 4),
        ("van", {"train": 1, "val": 1}, 2),
    ]
    assert picture.classes[0].median_px == pytest.approx((32 * 0.2 * 24 * 0.2) ** 0.5, abs=0.05)


def test_a_whole_data_set_ends_with_0_and_its_hash(data):
    result = run(data, "--json")
    assert (result.exit_code, len(json.loads(result.stdout)["sha256"])) == (0, 64)


def test_everything_that_is_broken_is_listed_at_once_and_ends_with_2(data):
    folder = data.parent
    (folder / "images" / "train" / "0.jpg").write_bytes(b"<html>")
    (folder / "images" / "val" / "0.jpg").write_bytes(b"")
    (folder / "labels" / "train" / "1.txt").write_text("7 0.5 0.5 0.2 0.2\n0 nan 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n")
    result = run(data)
    broken = [line for line in result.stdout.splitlines() if line.startswith("broken: ")]
    assert result.exit_code == 2
    assert ["0.jpg is no image" in broken[0], "0.jpg is empty" in broken[1]] == [True, True]
    assert ["1.txt:1 names class 7" in broken[2], "1.txt:2 holds '0 nan" in broken[3]] == [True, True]
    assert len(broken) == 4


def test_a_file_that_only_decoding_finds_damaged_is_found(data):
    image = write_image(data.parent / "images" / "val" / "0.jpg", size=(200, 200))
    whole = image.read_bytes()
    image.write_bytes(whole[:300] + bytes(len(whole) - 302) + whole[-2:])  # the end mark stands
    assert any("0.jpg does not decode" in problem or "0.jpg is damaged" in problem for problem in check(data).problems)


@pytest.mark.parametrize("text", ["names: [car]\n", "val: [unclosed\n", "val: gone\nnames: [car]\n"])
def test_a_yaml_that_names_no_data_ends_with_2(data, text):
    write_yaml(data.parent, text)
    assert run(data).exit_code == 2


def test_a_train_split_that_is_not_there_is_broken_and_a_test_split_odd(data):
    write_yaml(data.parent, "train: gone\nval: images/val\ntest: gone\nnames: [car, van]\n")
    picture = check(data)
    assert (picture.problem_count, "the train split names" in picture.problems[0]) == (1, True)
    assert picture.odd["splits that are not there"]["first"] == ["test"]


def test_what_is_odd_is_told_with_its_place(data):
    folder = data.parent
    shutil.copyfile(folder / "images" / "train" / "0.jpg", folder / "images" / "val" / "copy.jpg")
    shutil.copyfile(folder / "images" / "train" / "1.jpg", folder / "images" / "train" / "same.jpg")
    write_labelled(folder, "val", "dépôt.jpg", "0 0.5 0.5 0.001 0.2\n0 0.99 0.5 0.2 0.2\n" * 2, seed=99)
    odd = {what: kind["first"] for what, kind in check(data).odd.items()}
    assert odd == {
        "file names beyond ASCII": ["val/dépôt.jpg"],
        "label files with repeated rows, which count once": ["val/dépôt.jpg"],
        "images with boxes beyond their edge": ["val/dépôt.jpg"],
        "images with boxes of a side below 2 px": ["val/dépôt.jpg"],
        "images with the bytes of another in their split": ["train/same.jpg as train/1.jpg"],
        "images with the bytes of one in another split, so that scores flatter": ["val/copy.jpg as train/0.jpg"],
    }


def test_a_class_that_no_training_image_shows_is_odd(data):
    write_yaml(data.parent, "train: images/train\nval: images/val\nnames: [car, van, bus]\n")
    assert check(data).odd["classes without a box to train on"]["first"] == ["bus"]


def test_control_characters_of_a_file_name_are_shown_escaped(data):
    write_image(data.parent / "images" / "val" / "a\x1b[31m\nb.png", size=(9, 9))
    result = run(data)
    assert "a\\x1b[31m\\nb.png" in result.stdout
    assert "\x1b" not in result.stdout


def test_what_is_left_out_is_listed_by_its_reason(data):
    write_image(data.parent / "images" / "val" / "thin.png", size=(9, 60))
    assert "left out of val: 1 a side below 10 px: val/thin.png" in run(data).stdout

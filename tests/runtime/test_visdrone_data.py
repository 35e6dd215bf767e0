"""VisDrone's own files become a data set: whole, tiled, or refused with file and line."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimdeploy.cli import main
from slimdeploy.configs import VisdroneConfig
from slimdeploy.data import visdrone, visdrone_convert
from slimdeploy.data.dataset import read_dataset
from slimdeploy.data.images import read_image
from slimdeploy.data.tiles import crop, windows
from slimdeploy.data.visdrone_convert import convert
from slimdeploy.errors import DataError, OutputExists, UsageError

ROWS = "10,20,30,40,1,4,0,0\n0,0,50,50,0,0,0,0\n60,60,20,20,0,11,0,1\n"


@pytest.fixture
def download(tmp_path):
    """A download in the layout of the official zips: one image each in val and test-dev."""
    for split in ("val", "test-dev"):
        add(tmp_path / "raw", split, "a", ROWS)
    return tmp_path / "raw"


def add(raw, split, stem, rows, size=(100, 200)):
    place = raw / f"VisDrone2019-DET-{split}"
    for kind in ("images", "annotations"):
        (place / kind).mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    (place / "images" / f"{stem}.jpg").write_bytes(cv2.imencode(".jpg", noise)[1].tobytes())
    (place / "annotations" / f"{stem}.txt").write_text(rows, encoding="utf-8")
    return place


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_official_layout_becomes_a_data_set_that_reads(download, tmp_path):
    convert(download, VisdroneConfig(), tmp_path / "out")
    assert files(tmp_path / "out") == [
        "annotations/test-dev/a.txt", "annotations/val/a.txt", "coco/test-dev.json", "coco/val.json", "data.yaml",
        "images/test-dev/a.jpg", "images/val/a.jpg", "labels/test-dev/a.txt", "labels/val/a.txt", "run.json",
    ]  # fmt: skip
    dataset = read_dataset(tmp_path / "out" / "data.yaml")
    assert dataset.classes == visdrone.CLASSES
    assert {split: len(images) for split, images in dataset.splits.items()} == {"val": 1, "test": 1}


def test_labels_are_shares_of_scored_objects_alone(download, tmp_path):
    convert(download, VisdroneConfig(), tmp_path / "out")
    text = (tmp_path / "out" / "labels" / "val" / "a.txt").read_text(encoding="utf-8")
    assert text == "3 0.125000 0.400000 0.150000 0.400000\n"


def test_annotations_keep_ignored_regions_and_score_0_rows(download, tmp_path):
    convert(download, VisdroneConfig(), tmp_path / "out")
    assert (tmp_path / "out" / "annotations" / "val" / "a.txt").read_text(encoding="utf-8") == ROWS


def test_the_coco_file_holds_the_same_boxes_in_pixels(download, tmp_path):
    convert(download, VisdroneConfig(), tmp_path / "out")
    document = json.loads((tmp_path / "out" / "coco" / "val.json").read_text(encoding="utf-8"))
    assert document["images"] == [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}]
    assert [(one["category_id"], one["bbox"], one["area"]) for one in document["annotations"]] == [
        (4, [10, 20, 30, 40], 1200)
    ]
    assert [one["name"] for one in document["categories"]] == list(visdrone.CLASSES)


def is_grey(pixels):
    return abs(pixels.astype(int) - visdrone_convert.GREY).max() <= 8  # JPEG


def test_ignored_regions_of_training_images_can_be_masked(download, tmp_path):
    add(tmp_path / "raw", "train", "a", ROWS)
    convert(download, VisdroneConfig(mask_ignored=True), tmp_path / "out")
    image = read_image(tmp_path / "out" / "images" / "train" / "a.jpg")
    assert is_grey(image[:8, :40])  # away from edges, which JPEG blurs
    assert not is_grey(image[24:50, 12:38])  # the labelled object in the region
    assert image[:, 60:].std() > 30
    assert "masked" in read_dataset(tmp_path / "out" / "data.yaml").name


def test_masking_leaves_what_is_scored_as_it_is(download, tmp_path):
    add(tmp_path / "raw", "train", "a", ROWS)
    convert(download, VisdroneConfig(mask_ignored=True), tmp_path / "out")
    raw = download / "VisDrone2019-DET-val/images/a.jpg"
    assert (tmp_path / "out/images/val/a.jpg").read_bytes() == raw.read_bytes()
    assert (tmp_path / "out/annotations/train/a.txt").read_text(encoding="utf-8") == ROWS


def test_tiles_of_a_masked_image_are_masked(tmp_path):
    add(tmp_path / "raw", "train", "a", "0,0,50,50,0,0,0,0\n")
    convert(tmp_path / "raw", VisdroneConfig(tile=64, mask_ignored=True), tmp_path / "out")
    assert is_grey(read_image(tmp_path / "out" / "images" / "train" / "a_0_0.jpg")[:32, :32])


def test_a_training_image_without_ignored_regions_is_not_encoded_anew(tmp_path):
    add(tmp_path / "raw", "train", "a", "10,20,30,40,1,4,0,0\n")
    convert(tmp_path / "raw", VisdroneConfig(mask_ignored=True), tmp_path / "out")
    raw = tmp_path / "raw/VisDrone2019-DET-train/images/a.jpg"
    assert (tmp_path / "out/images/train/a.jpg").read_bytes() == raw.read_bytes()


def test_one_split_can_be_named_by_its_own_folder(download, tmp_path):
    assert set(convert(download / "VisDrone2019-DET-val", VisdroneConfig(), tmp_path / "out")) == {"val"}


def test_the_download_is_left_as_it_was(download, tmp_path):
    before = {path: path.read_bytes() for path in download.rglob("*") if path.is_file()}
    convert(download, VisdroneConfig(tile=64), tmp_path / "out")
    assert {path: path.read_bytes() for path in download.rglob("*") if path.is_file()} == before


def test_images_are_copied_where_links_are_refused(download, tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError("no links here")

    monkeypatch.setattr(visdrone_convert.os, "link", refuse)
    convert(download, VisdroneConfig(), tmp_path / "out")
    copied, original = tmp_path / "out/images/val/a.jpg", download / "VisDrone2019-DET-val/images/a.jpg"
    assert copied.read_bytes() == original.read_bytes()
    assert not copied.samefile(original)


def test_boxes_without_an_area_are_counted_kept_for_the_scorer_and_get_no_label(tmp_path):
    add(tmp_path / "raw", "val", "a", "10,20,0,40,1,4,0,0\n10,20,5,5,1,1,0,0\n")
    counts = convert(tmp_path / "raw", VisdroneConfig(), tmp_path / "out")
    assert (counts["val"]["boxes"], counts["val"]["without_area"]) == (1, 1)
    assert "10,20,0,40,1,4,0,0" in (tmp_path / "out/annotations/val/a.txt").read_text(encoding="utf-8")


def test_boxes_that_leave_the_image_are_cut_at_its_edge(tmp_path):
    add(tmp_path / "raw", "val", "a", "-10,90,30,40,1,1,0,0\n")
    convert(tmp_path / "raw", VisdroneConfig(), tmp_path / "out")
    assert (tmp_path / "out/labels/val/a.txt").read_text(encoding="utf-8") == "0 0.050000 0.950000 0.100000 0.100000\n"


def test_an_empty_annotation_file_is_an_image_without_objects(tmp_path):
    add(tmp_path / "raw", "val", "a", "")
    counts = convert(tmp_path / "raw", VisdroneConfig(), tmp_path / "out")
    assert (counts["val"]["images"], counts["val"]["boxes"]) == (1, 0)


def test_a_comma_at_the_end_of_a_row_is_no_damage(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("1,2,3,4,1,5,0,0,\n\n", encoding="utf-8")
    assert visdrone.read_rows(path).tolist() == [[1, 2, 3, 4, 1, 5, 0, 0]]


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        pytest.param("1,2,3,4,1,5,0", "has 7 columns", id="too few"),
        pytest.param("1,2,3,4,1,5,0,0,9", "has 9 columns", id="too many"),
        pytest.param("1,2,x,4,1,5,0,0", "whole numbers", id="no number"),
        pytest.param("1,2,-3,4,1,5,0,0", "below 0", id="negative width"),
        pytest.param("1,2,3,4,1,12,0,0", "category 12", id="unknown category"),
        pytest.param("1,2,3,4,0.9,5,0,0", "whole numbers", id="a detector's score"),
        pytest.param("1,2,3,4,2,5,0,0", "score 2", id="unknown score"),
    ],
)
def test_a_damaged_row_is_told_with_file_and_line(tmp_path, row, wrong):
    path = tmp_path / "a.txt"
    path.write_text(f"1,2,3,4,1,5,0,0\n{row}\n", encoding="utf-8")
    rows, problems = visdrone.parse(path)
    assert len(rows) == 1
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:2 ")
    assert wrong in problems[0]


def test_every_damaged_row_is_counted_twenty_are_shown_and_nothing_is_written(download, tmp_path, caplog):
    add(download, "val", "b", "nonsense\n" * 25)
    with caplog.at_level(logging.ERROR, "slimdeploy.data"), pytest.raises(DataError, match="25 damaged rows"):
        convert(download, VisdroneConfig(), tmp_path / "out")
    told = [record.message for record in caplog.records]
    assert len(told) == 20
    assert all("b.txt:" in line for line in told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        pytest.param("images/a.jpg", "a.txt has no image", id="an image"),
        pytest.param("annotations/a.txt", "a.txt is missing", id="annotations"),
    ],
)
def test_a_missing_half_of_a_pair_is_refused(download, tmp_path, caplog, lost, told):
    add(download, "val", "b", ROWS)
    (download / "VisDrone2019-DET-val" / lost).unlink()
    with pytest.raises(DataError, match="1 damaged rows or missing files"):
        convert(download, VisdroneConfig(), tmp_path / "out")
    assert told in caplog.text


def test_an_image_that_does_not_decode_stops_with_its_name_and_leaves_nothing(download, tmp_path):
    (download / "VisDrone2019-DET-val/images/a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.jpg"):
        convert(download, VisdroneConfig(), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


def test_a_folder_without_visdrone_says_what_was_wanted(tmp_path):
    with pytest.raises(DataError, match="VisDrone2019-DET-val/images"):
        convert(tmp_path, VisdroneConfig(), tmp_path / "out")


def test_an_output_that_exists_is_refused(download, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExists):
        convert(download, VisdroneConfig(), tmp_path / "out")


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        pytest.param((1080, 1920), 640, 0.2, id="full HD"),
        pytest.param((765, 1360), 640, 0.2, id="a common size of VisDrone"),
        pytest.param((641, 641), 640, 0.0, id="one pixel too big"),
        pytest.param((100, 1000), 128, 0.5, id="lower than a tile"),
    ],
)
def test_tiles_cover_the_image_overlap_enough_and_stay_inside(size, tile, overlap):
    seen = np.zeros(size, dtype=int)
    for left, top, right, bottom in windows(size, tile, overlap):
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        assert (right - left, bottom - top) == (min(tile, size[1]), min(tile, size[0]))
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1
    lefts = sorted({left for left, *_ in windows(size, tile, overlap)})
    assert all(after - before <= tile * (1 - overlap) for before, after in itertools.pairwise(lefts))


def test_an_image_no_bigger_than_a_tile_is_one_tile():
    assert windows((640, 640), 640, 0.2) == ((0, 0, 640, 640),)


def test_a_box_is_moved_and_cut_with_its_tile():
    rows = np.array([[90, 50, 20, 10, 1, 4, 0, 0]])
    assert crop(rows, (0, 0, 100, 100)).tolist() == [[90, 50, 10, 10, 1, 4, 1, 0]]
    assert crop(rows, (80, 40, 200, 100)).tolist() == [[10, 10, 20, 10, 1, 4, 0, 0]]


def test_an_object_of_which_little_is_in_a_tile_is_an_ignored_region_there():
    rows = np.array([[97, 50, 20, 10, 1, 4, 0, 0]])
    assert crop(rows, (0, 0, 100, 100)).tolist() == [[97, 50, 3, 10, 0, 0, 1, 0]]
    assert crop(rows, (0, 0, 90, 100)).tolist() == []


def test_tiles_hold_the_pixels_and_the_boxes_of_their_place(tmp_path):
    add(tmp_path / "raw", "val", "a", "150,60,20,20,1,4,0,0\n")
    counts = convert(tmp_path / "raw", VisdroneConfig(tile=128), tmp_path / "out")
    assert files(tmp_path / "out" / "images") == ["val/a_0_0.jpg", "val/a_72_0.jpg"]
    assert (counts["val"]["source_images"], counts["val"]["images"], counts["val"]["boxes"]) == (1, 2, 1)
    assert (tmp_path / "out/annotations/val/a_72_0.txt").read_text(encoding="utf-8") == "78,60,20,20,1,4,0,0\n"
    assert (tmp_path / "out/labels/val/a_0_0.txt").read_text(encoding="utf-8") == ""
    whole = read_image(tmp_path / "raw/VisDrone2019-DET-val/images/a.jpg")
    tile = read_image(tmp_path / "out/images/val/a_72_0.jpg")
    assert np.abs(tile.astype(int) - whole[0:100, 72:200]).mean() < 12  # encoded once more


@pytest.mark.parametrize("wrong", [{"tile": 10}, {"tile": 640, "overlap": 1.0}, {"overlap": -0.1}])
def test_tiles_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        VisdroneConfig(**wrong)


def test_the_verb_prints_a_table_and_exits_with_2_on_damage(download, tmp_path, monkeypatch, capsys):
    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["slimdeploy", "visdrone", *(str(one) for one in argv)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().out

    code, stdout = run(download, "--out", tmp_path / "out")
    assert code == 0
    assert stdout.splitlines()[1].split() == ["val", "1", "1", "1", "0", "1", "1"]
    assert stdout.rstrip().endswith(str(tmp_path / "out" / "data.yaml"))
    add(download, "val", "b", "nonsense")
    assert run(download, "--out", tmp_path / "again")[0] == 2


def real_data() -> Path:
    if "SLIMDEPLOY_DATA" not in os.environ:
        pytest.skip("SLIMDEPLOY_DATA names no folder of real data")
    return Path(os.environ["SLIMDEPLOY_DATA"])


def test_real_images_get_the_labels_that_were_made_from_them_elsewhere(tmp_path):
    sample = real_data() / "visdrone_sample"
    convert(sample, VisdroneConfig(), tmp_path / "out")
    for place in sorted((sample / "labels").rglob("*.txt")):
        made = tmp_path / "out" / "labels" / place.relative_to(sample / "labels")
        theirs, ours = (np.loadtxt(path, ndmin=2) for path in (place, made))
        assert ours.shape == theirs.shape
        assert ours == pytest.approx(theirs, abs=2e-6)


def test_real_tiles_show_every_labelled_object_whole_somewhere(tmp_path):
    sample = tmp_path / "raw"
    shutil.copytree(real_data() / "visdrone_sample/images/test-dev", sample / "images/test-dev")
    shutil.copytree(real_data() / "visdrone_sample/annotations/test-dev", sample / "annotations/test-dev")
    convert(sample, VisdroneConfig(tile=640, overlap=0.2), tmp_path / "out")
    whole = {one.image.stem: one.rows[visdrone.is_object(one.rows)] for one in visdrone.read_download(sample)}
    found = {stem: set() for stem in whole}
    for path in (tmp_path / "out/annotations/test-dev").glob("*.txt"):
        stem, left, top = path.stem.rsplit("_", 2) if path.stem not in whole else (path.stem, 0, 0)
        rows = visdrone.read_rows(path)
        found[stem] |= {
            (row[0] + int(left), row[1] + int(top), *row[2:6]) for row in rows[visdrone.is_object(rows)].tolist()
        }
    small = {stem: [r for r in rows.tolist() if max(r[2:4]) <= 128 and min(r[2:4])] for stem, rows in whole.items()}
    assert sum(len(rows) for rows in small.values()) > 200
    assert {stem: [row for row in rows if tuple(row[:6]) not in found[stem]] for stem, rows in small.items()} == {
        stem: [] for stem in small
    }


def test_all_official_val_annotations_read_and_hold_the_known_numbers(tmp_path):
    with tarfile.open(real_data() / "visdrone_val_annotations.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    every = [visdrone.read_rows(path) for path in sorted((tmp_path / "val").glob("*.txt"))]
    rows = np.concatenate(every)
    assert len(every) == 548
    assert int(visdrone.is_object(rows).sum()) == 38_759
    per_class = np.bincount(rows[:, visdrone.CATEGORY], minlength=12)
    assert per_class.tolist() == [1378, 8844, 5125, 1287, 14064, 1975, 750, 1045, 532, 251, 4886, 32]

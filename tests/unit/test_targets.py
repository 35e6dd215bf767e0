"""Targets are files of facts; a wrong key or value in one is an error that names the file and the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slimdeploy.errors import TargetError
from slimdeploy.records import PRECISIONS
from slimdeploy.targets import list_targets, load_target, read_target

FILES = sorted((Path(__file__).parents[2] / "targets").glob("*.toml"))
HOSTS = {"cpu", "cpu-openvino", "cuda"}
BOARDS = {
    "nano",
    "tx2",
    "xavier-nx",
    "agx-xavier",
    "orin-nano-4gb",
    "orin-nano-8gb",
    "orin-nx-8gb",
    "orin-nx-16gb",
    "agx-orin-32gb",
    "agx-orin-64gb",
    "thor-t4000",
    "thor-t5000",
}
GOOD = """
title = "A board"
kind = "jetson"
runtime = "tensorrt"
precisions = ["fp32", "fp16"]
alignment = { fp32 = 8, fp16 = 8 }
opset = 13
"""


@pytest.fixture
def write_target(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_there_is_a_target_for_every_host_and_board():
    assert {target.name for target in list_targets()} == {*HOSTS, "jetson", *BOARDS}


def test_targets_are_listed_by_name():
    names = [target.name for target in list_targets()]
    assert names == sorted(names)


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_what_is_safe_for_any_jetson_is_safe_for_each_board(board):
    jetson, one = load_target("jetson"), load_target(board)
    assert jetson.opset <= one.opset
    assert set(jetson.precisions) <= set(one.precisions)
    assert [p for p in jetson.precisions if jetson.alignment[p] % one.alignment[p]] == []


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_a_board_names_its_compute_capability_and_versions(board):
    one = load_target(board)
    assert re.fullmatch(r"\d+\.\d", one.sm)
    assert one.jetpack
    assert one.tensorrt
    assert one.memory_gb >= 4


@pytest.mark.parametrize("board", ["nano", "tx2", "jetson"])
def test_boards_without_fast_int8_list_none(board):
    assert "int8" not in load_target(board).precisions


def test_part_numbers_belong_to_one_board_each():
    parts = [part for target in list_targets() for part in target.parts]
    assert len(parts) == len(set(parts))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_says_where_its_opset_and_alignment_come_from(path):
    text = path.read_text(encoding="utf-8")
    assert "# opset: " in text
    assert "# alignment: " in text


def test_the_name_of_a_target_is_its_files(write_target):
    assert read_target(write_target(GOOD)).name == "mine"


def test_an_unknown_key_is_an_error_that_names_file_and_key(write_target):
    path = write_target(GOOD + "opsets = 17\n")
    with pytest.raises(TargetError, match=r"mine\.toml has the unknown key 'opsets'; wanted: one of .*opset"):
        read_target(path)


def test_a_missing_key_is_named(write_target):
    with pytest.raises(TargetError, match=r"mine\.toml lacks the key 'opset'"):
        read_target(write_target(GOOD.replace("opset = 13", "")))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('opset = "13"', "opset"),
        ("opset = 13.5", "opset"),
        ("opset = true", "opset"),
        ("opset = -1", "opset"),
        ("title = 3", "title"),
        ('title = ""', "title"),
        ('precisions = "fp16"', "precisions"),
        ("precisions = [16]", "precisions"),
        ("precisions = []", "precisions"),
        ('precisions = ["fp8"]', "precisions"),
        ("alignment = 8", "alignment"),
        ("alignment = { fp32 = 8 }", "alignment"),
        ("alignment = { fp32 = 8, fp16 = 0 }", "alignment"),
        ("alignment = { fp32 = 8, fp16 = 8, int8 = 32 }", "alignment"),
        ('kind = "phone"', "kind"),
        ('runtime = "magic"', "runtime"),
        ("memory_gb = 0", "memory_gb"),
        ('memory_gb = "4 GB"', "memory_gb"),
        ("dla_cores = 1.5", "dla_cores"),
        ('jetpack = "6.2"', "jetpack"),
        ("sm = 8.7", "sm"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_and_key(write_target, line, key):
    others = [row for row in GOOD.splitlines() if not row.startswith(f"{key} =")]
    with pytest.raises(TargetError, match=rf"mine\.toml: {key} is .*; wanted: "):
        read_target(write_target("\n".join([*others, line])))


def test_a_damaged_file_is_a_target_error(write_target):
    with pytest.raises(TargetError, match=r"mine\.toml cannot be read"):
        read_target(write_target("title = "))


def test_a_whole_number_is_good_for_a_quantity(write_target):
    assert read_target(write_target(GOOD + "memory_gb = 4\n")).memory_gb == 4.0


def test_precisions_are_the_ones_that_slimdeploy_makes():
    assert {p for target in list_targets() for p in target.precisions} == set(PRECISIONS)


@pytest.mark.parametrize(
    ("asked", "close"),
    [("orin-nano", "orin-nano-4gb or orin-nano-8gb"), ("jetson-nano", "nano"), ("NANO", "nano"), ("cuda0", "cuda")],
)
def test_an_unknown_target_lists_the_close_ones_and_all(asked, close):
    with pytest.raises(TargetError) as caught:
        load_target(asked)
    assert close in caught.value.do
    assert all(path.stem in caught.value.wanted for path in FILES)


def test_a_target_unlike_any_other_points_to_the_list():
    with pytest.raises(TargetError, match="slimdeploy targets"):
        load_target("zzzz")

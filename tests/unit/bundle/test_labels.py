"""labels.txt has one line a class, whatever the classes are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimdeploy.bundle.dropin import Model
from slimdeploy.bundle.dropins import require_possible
from slimdeploy.bundle.labels import labels_text
from slimdeploy.errors import UsageError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pedes\ntrian", r"'pedes\\ntrian'"),
        ("a\rb", r"'a\\rb'"),
        ("a\x0bb", r"'a\\x0bb'"),
        ("a\x1b[31mb", r"'a\\x1b\[31mb'"),
        ("a\0b", r"'a\\x00b'"),
        ("a\x85b", r"'a\\x85b'"),
        ("a\u2028b", r"'a\\u2028b'"),
        ("a\u202eb", r"'a\\u202eb'"),
        ("\ufeffcar", r"'\\ufeffcar'"),
        ("a\udc80b", r"'a\\udc80b'"),
        ("a\tb", r"'a\\tb'"),
        ("", "''"),
        ("  ", "'  '"),
    ],
)
def test_a_name_that_is_no_line_is_refused_and_shown_escaped(name, shown):
    with pytest.raises(UsageError, match=f"calls class 1 {shown}, which is no line") as refused:
        labels_text(("car", name))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name", ["it's a car", "person; sitting", "Straße", "自転車", "پیاده‌رو", "a, b: {c}", "👩‍🚒", "%s", "#"]
)
def test_every_other_name_is_one_line(name):
    assert labels_text((name, "car")).splitlines() == [name, "car"]


def model_of(*classes):
    return Model(
        path=Path("model.onnx"), name="best", task="detect", classes=classes, imgsz=(640, 640), strides=(8, 16, 32),
        batch=1, dynamic_batch=False, precision="fp32",
    )  # fmt: skip


def test_deepstream_cannot_show_a_class_with_a_semicolon():
    with pytest.raises(
        UsageError, match="nvinfer ends a label at a semicolon, and a class is called 'person; sitting'"
    ):
        require_possible(("triton", "deepstream"), model_of("car", "person; sitting"))


def test_triton_and_ros2_take_a_class_with_a_semicolon():
    require_possible(("triton", "ros2"), model_of("car", "person; sitting"))

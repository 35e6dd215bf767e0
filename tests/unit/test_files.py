"""Files that anybody may have written are read within limits, and refused in one line."""

from __future__ import annotations

import os

import pytest

from slimdeploy.errors import UsageError
from slimdeploy.files import parse_json, parse_toml, read_bytes, read_toml


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"[" * 100_000, "nested too deeply", id="100,000 brackets"),
        pytest.param(b'{"a":' * 100_000, "nested too deeply", id="100,000 objects"),
        pytest.param(b"1" * 5000, "digits", id="a number of 5,000 digits"),
        pytest.param(b'{"a": 1, "a": 2}', "the key 'a' stands there twice", id="a key twice"),
        pytest.param(b"\xff\xfe", "not a record", id="no UTF-8"),
        pytest.param(b"", "not a record", id="nothing"),
    ],
)
def test_json_that_cannot_be_read_is_refused_in_one_short_line(raw, said):
    with pytest.raises(UsageError, match=said) as caught:
        parse_json(raw, where="run.json", what="record")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        pytest.param(b"x = " + b"[" * 5000, "nested too deeply", id="5,000 brackets"),
        pytest.param(b"x = " + b"1" * 5000, "digits", id="a number of 5,000 digits"),
        pytest.param(b".".join([b"a"] * 20_000) + b" = 1", "more than 8 parts", id="20,000 dotted keys"),
        pytest.param(b"[" + b" . ".join([b"a"] * 20_000) + b"]", "more than 8 parts", id="a heading of 20,000 keys"),
        pytest.param(b"x = {" + b".".join([b'"a"'] * 20_000) + b" = 1}", "more than 8 parts", id="keys in braces"),
        pytest.param(b"x = 2001-99-99", "cannot be read, since it is no TOML", id="no date"),
        pytest.param(b'x = "\xff"', "cannot be read, since it is no TOML", id="no UTF-8"),
        pytest.param(b"x = 1\nx = 2", "cannot be read, since it is no TOML", id="a key twice"),
    ],
)
def test_toml_that_cannot_be_read_is_refused_in_one_short_line(raw, said):
    with pytest.raises(UsageError, match=said) as caught:
        parse_toml(raw, where="recipe.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_dots_in_a_text_or_a_comment_are_no_parts_of_a_key():
    raw = b"a.b.c.d = \"1.2.3.4.5.6.7.8.9.10\"  # see 1.2.3.4.5.6.7.8.9.10\nother = '1.2.3.4.5.6.7.8.9.10'"
    assert parse_toml(raw, where="recipe.toml")["other"] == "1.2.3.4.5.6.7.8.9.10"


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_toml():
    assert parse_toml(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n", where="recipe.toml") == {"a": 1, "b": 2}


def test_a_file_larger_than_its_limit_is_refused_unread(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(b"x" * 11)
    with pytest.raises(UsageError, match=r"11 bytes.*at most 10 bytes"):
        read_bytes(path, what="record", limit_bytes=10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX alone has named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(UsageError, match="no ordinary file"):
        read_toml(tmp_path / "recipe.toml")


@pytest.mark.parametrize("name", ["a\0b.toml", "x" * 5000, "folder", "folder/missing.toml", "file/below.toml"])
def test_a_path_that_leads_to_no_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"no recipe at|cannot be read|no ordinary file"):
        read_toml(tmp_path / name)

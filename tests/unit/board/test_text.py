"""What somebody else wrote is shown in one line, of bounded length, and without control characters."""

from __future__ import annotations

import pytest

from slimdeploy.board import errors as board_errors
from slimdeploy.board.text import brief, one_line, printable, printable_lines
from slimdeploy.errors import UsageError

CONTROLS = ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800"]


@pytest.mark.parametrize("sign", CONTROLS, ids=ascii)
def test_a_sign_that_does_not_print_is_escaped(sign):
    shown = printable(f"a{sign}b")
    assert shown.isprintable()
    assert shown == f"a{sign.encode('unicode_escape').decode()}b"


@pytest.mark.parametrize("text", ["p\xe9ri\xf6d", "\u884c\u4eba", "C:\\data\\new", "a\u00a0b", "\U0001f681"])
def test_what_prints_stays_as_it_is(text):
    assert printable(text) == text


def test_lines_stay_lines_where_a_text_has_several():
    assert printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\r\n"


def test_a_long_text_is_cut_in_its_middle():
    shown = one_line("a" * 10_000 + "end")
    assert len(shown) <= 600
    assert shown.startswith("aaa")
    assert shown.endswith("end")


def test_a_value_of_any_size_is_quoted_in_a_few_characters():
    nested = ["x" * 10**6]
    for _ in range(30):
        nested = [nested] * 9  # 9**30 elements, each of which is there once
    for value in (nested, {"k" * 10**6: nested}, 10**5000, "\x1b" * 500):
        assert len(brief(value)) <= 120


@pytest.mark.parametrize("kind", [UsageError, board_errors.UsageError])
def test_every_error_is_one_line_of_bounded_length(kind):
    error = kind("a\nb\x1b" + "x" * 10**6, wanted="c\u2028" * 1000, do="d\0" * 1000)
    assert str(error).isprintable()
    assert len(str(error)) < 2_000
    assert all(part.isprintable() for part in map(str, error.as_json().values()))

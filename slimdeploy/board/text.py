"""Show names, paths and values that somebody else wrote: in one line, of bounded length, without control characters.

A raw ESC, newline or U+202E in a class name would move lines in a file, colour a terminal or turn a page around.
"""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Any

LONGEST = 600  # characters of a part of a message; a path of a deep folder still fits
SHOWN = 300  # characters of a text from another machine in a message
LONGEST_VALUE = 120  # characters of a value that a message quotes
_TAIL = 3  # a third of what is kept of a long text is its end


def printable(text: str) -> str:
    """Return a text in which every character prints: all others are escaped, as `\\n`, `\\x1b` or `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(sign if _prints(sign) else sign.encode("unicode_escape").decode("ascii") for sign in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines in which every other character prints."""
    return "\n".join(map(printable, text.split("\n")))


def one_line(text: str, longest: int = LONGEST) -> str:
    """Return a text as `printable` does, cut in its middle where it is longer than `longest` characters."""
    return _cut(printable(_cut(text, longest)), longest)  # an escaped character is up to ten times as long


def brief(value: Any) -> str:
    """Return a value as it is quoted in a message: its repr, short however large or nested the value is."""
    try:
        return one_line(_SHORT.repr(value), LONGEST_VALUE)
    except ValueError:  # an integer of thousands of digits is not turned into text
        return f"a value of the type {type(value).__name__} that is too long to show"


def _cut(text: str, longest: int) -> str:
    tail = longest // _TAIL
    return text if len(text) <= longest else f"{text[: longest - tail - 3]} \N{HORIZONTAL ELLIPSIS} {text[-tail:]}"


def _prints(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"  # spaces of other widths do no harm


class _Short(reprlib.Repr):
    """Stops after a few elements and levels, so that no value takes more time or memory than its first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxstring, self.maxlong = 3, LONGEST_VALUE, LONGEST_VALUE, LONGEST_VALUE

    def repr_int(self, x: int, level: int) -> str:
        """Return an integer, or its size in digits where those fill a line."""
        return repr(x) if x.bit_length() < 256 else f"an integer of {x.bit_length()} bits"


_SHORT = _Short()

"""labels.txt: one class a line, in label order, as the board's programs, DeepStream and Triton read it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError

# Control characters, line and paragraph separators, and lone surrogates, which UTF-8 cannot hold.
_NEVER = frozenset(("Cc", "Zl", "Zp", "Cs"))
# What turns the text behind it around, so that a line shows something else than it holds; and the byte order mark.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def labels_text(classes: Sequence[str]) -> str:
    """Return the text of labels.txt.

    Raises:
        UsageError: a name does not fit a line.
    """
    require_lines(classes, "the model")
    return "".join(f"{name}\n" for name in classes)


def require_lines(classes: Sequence[str], source: str) -> None:
    """Raise UsageError unless every class name is a line of its own; the message shows it escaped.

    Args:
        classes: the names, in label order.
        source: what has these classes, for the message.
    """
    for number, name in enumerate(classes):
        if not name.strip() or any(sign in _TURNING or unicodedata.category(sign) in _NEVER for sign in name):
            raise UsageError(
                f"{source} calls class {number} {brief(name)}, which is no line of labels.txt",
                wanted="names without line breaks and control characters",
                do="give the class another name in the data set's YAML and train again, or set it in the checkpoint",
            )

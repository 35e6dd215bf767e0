"""Text from outside, such as a name, a path or what a program said, as it may reach a terminal, a unit or a rule."""

from __future__ import annotations

from slimdeploy.board.errors import UsageError

SHOWN = 300  # characters of one text in a message


def printable(text: str, limit: int = 0) -> str:
    """Return a text with every control, format and separator character but the space escaped as Python writes it.

    Args:
        text: from outside.
        limit: most characters to show; 0 shows all.
    """
    if 0 < limit < len(text):
        return printable(text[:limit]) + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)


def require_printable(text: str, what: str) -> str:
    """Return a text that holds no control, format or separator character but the space.

    Args:
        text: from outside.
        what: what it is, for the message.

    Raises:
        UsageError: it holds one.
    """
    if not text.isprintable():
        raise UsageError(
            f"{what} {text[:SHOWN]!r} holds a control character", wanted="printable characters in one line"
        )
    return text

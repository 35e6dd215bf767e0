"""Whether class names can stand in a file with a line each, and tell their classes apart."""

from __future__ import annotations

from typing import Any

from slimdeploy.board.text import brief


def wrong_names(names: Any) -> str:
    """Return what is wrong with class names, "" where nothing is.

    Args:
        names: what should be a list of texts, in label order.
    """
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return "the class names are no list of texts"
    seen = set()
    for name in names:
        if not name.isprintable():
            return f"the class name {brief(name)} holds a control character or a line end"
        if name in seen:
            return f"two classes are called {brief(name)}"
        seen.add(name)
    return ""

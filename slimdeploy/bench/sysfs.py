"""Read what the system tells of itself in small files; what is not there is None."""

from __future__ import annotations

import contextlib
from pathlib import Path


def read_text(path: Path) -> str | None:
    """Return a small file's text without blanks around it, or None where it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip()
    return None


def read_number(path: Path) -> float | None:
    """Return the number that a small file holds, or None where it holds none."""
    with contextlib.suppress(TypeError, ValueError):
        return float(read_text(path) or "")
    return None

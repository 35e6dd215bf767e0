"""Read JSON and TOML that anybody may have written: ordinary files alone, of a bounded size, errors in one line."""

from __future__ import annotations

import json
import re
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

JSON_LIMIT_BYTES = 256 << 20  # ten minutes of samples of ten models take some 100 MB
TOML_LIMIT_BYTES = 512 << 10  # a fleet of a thousand boards takes 100 kB
# What a damaged record raises where its parts are put together; each becomes one line that names the file.
MALFORMED: tuple[type[Exception], ...] = (
    UsageError, KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError, ZeroDivisionError,
)  # fmt: skip

_DEEPEST_KEY = 8  # dotted parts; the parser's time grows with their square
_KEYS = re.compile(r"[^=\[\]{},#\n]+")  # what lies between the signs that end a key


def read_bytes(path: Path, *, what: str, limit_bytes: int, wanted: str = "") -> bytes:
    """Return what an ordinary file holds.

    Args:
        path: the file.
        what: what to call it in messages.
        limit_bytes: its largest size.
        wanted: what should lie there.

    Raises:
        UsageError: it is missing, cannot be read, is no ordinary file or too large.
    """
    try:
        known = path.stat()
        if not stat.S_ISREG(known.st_mode):  # a pipe or a device may give nothing for ever, or never end
            raise UsageError(f"{path} is no ordinary file, so no {what}", wanted=wanted or "a file")
        if known.st_size > limit_bytes:
            raise UsageError(f"{path} has {known.st_size:,} bytes", wanted=f"a {what} of at most {limit_bytes:,} bytes")
        with path.open("rb") as stream:
            return stream.read(limit_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"no {what} at {path}", wanted=wanted or "a file") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path} cannot be read: {reason}", wanted=wanted or f"a {what} that can be read") from error


def parse_json(raw: bytes | str, *, where: str, what: str = "JSON", do: str = "make it again") -> Any:
    """Return the value that JSON stands for; an object that names a key twice is refused.

    Args:
        raw: the text, in UTF-8.
        where: what to call it in messages, such as its path.
        what: what it should be.
        do: what to do where it is not.

    Raises:
        UsageError: it is no JSON, is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise UsageError(f"{where} is not a {what}: it is nested too deeply", do=do) from error
    except ValueError as error:
        raise UsageError(f"{where} is not a {what}: {error}", do=do) from error


def parse_toml(raw: bytes, *, where: str) -> dict[str, Any]:
    """Return the table that TOML stands for; see `parse_json`.

    Raises:
        UsageError: it is no TOML, is nested too deeply, or holds a number of thousands of digits.
    """
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
        if any(found.group().count(".") >= _DEEPEST_KEY for found in _KEYS.finditer(text)):
            _require_shallow(text)
        return tomllib.loads(text)
    except RecursionError as error:
        raise UsageError(f"{where} cannot be read, since it is no TOML: it is nested too deeply") from error
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where} cannot be read, since it is no TOML: {error}") from error


def read_toml(path: Path, *, what: str = "recipe", wanted: str = "a TOML file; examples/ has some") -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        UsageError: it is missing, cannot be read, or is no TOML.
    """
    return parse_toml(read_bytes(path, what=what, limit_bytes=TOML_LIMIT_BYTES, wanted=wanted), where=str(path))


def why_malformed(error: Exception) -> str:
    """Return what one of `MALFORMED` says, for a message that names the file."""
    if isinstance(error, UsageError):
        return f"{error.wrong}{f' (wanted: {error.wanted})' if error.wanted else ''}"
    return f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {brief(_first_twice(names))} stands there twice")
    return found


def _first_twice(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _require_shallow(text: str) -> None:
    """Refuse keys of many dotted parts; dots in a text or a comment do not count."""
    plain = re.sub(r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|#[^\n]*", '"', text, flags=re.DOTALL)
    if any(found.group().count(".") >= _DEEPEST_KEY for found in _KEYS.finditer(plain)):
        raise ValueError(f"a key has more than {_DEEPEST_KEY} parts")

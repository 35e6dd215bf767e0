"""Read the YAML of a data set: its classes, and where its splits lie. Nothing that it names is ever run or downloaded.

Keys and defaults are ultralytics' own (8.4), except that `path` is relative to the YAML alone: never to the working
directory, and never to the folder of data sets in a user's settings.
"""

from __future__ import annotations

import datetime
import logging
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.board.text import brief
from slimdeploy.errors import DataError

SPLITS = ("train", "val", "test")
LARGEST_BYTES = 8 << 20  # 100,000 class names take about 2 MiB
DEEPEST = 16  # levels of nesting; a data set has three
MOST_CLASSES = 100_000
KEYPOINT_VALUES = (2, 3)  # x and y, perhaps with visibility
CHANNELS = 3
# Characters that turn the text behind them around, wherever it is shown.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_UNPRINTED = frozenset({"Cc", "Cs", "Zl", "Zp"})

log = logging.getLogger("slimdeploy.data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the YAML of a data set says.

    Attributes:
        path: the YAML file.
        root: the folder that splits are relative to.
        classes: class names, in label order.
        splits: folders, lists and images of each split that the YAML names, as written there.
        keypoint_columns: columns of a label row behind its box that hold keypoints.
        name: as shown: `slimdeploy_name`, or the name of the YAML's folder.
        rendered: whether the images are rendered, as `slimdeploy_rendered` says.
        tile: side of the tiles that bigger images were cut into, in pixels; 0 where they are whole.
    """

    path: Path
    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    keypoint_columns: int
    name: str
    rendered: bool
    tile: int


def read_settings(path: Path) -> Settings:
    """Read a data set's YAML.

    Raises:
        DataError: the file is missing, is no YAML, or says something that no data set says.
    """
    content = _bytes(path)
    try:
        return _settings(_parse(content.decode("utf-8-sig"), path), path)
    except UnicodeDecodeError as error:
        return _beyond_utf8(content, path, error)


def _beyond_utf8(content: bytes, path: Path, error: UnicodeDecodeError) -> Settings:
    """Return the settings of a YAML in another encoding, where its comments alone need that encoding."""
    settings = _settings(_parse(content.decode("latin-1"), path), path)
    if settings != _settings(_parse(content.decode("utf-8", errors="ignore"), path), path):
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line} is no UTF-8", wanted="class names and paths in UTF-8", do="save it as UTF-8")
    log.warning("%s is no UTF-8; read nevertheless, since only comments hold other bytes", path)
    return settings


def _bytes(path: Path) -> bytes:
    wanted = "a YAML file with names, train and val"
    try:
        if not path.is_file():
            raise DataError(f"no data set at {path}", wanted=wanted)
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise DataError(f"{path} has {size / (1 << 20):.0f} MiB", wanted=f"{wanted}, {LARGEST_BYTES >> 20} at most")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {_why(error)}", wanted=wanted) from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _parse(text: str, path: Path) -> Mapping[Any, Any]:
    with needs("onnx"):
        import yaml
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _require_flat(yaml.parse(text, Loader=loader), path)
        plain = yaml.load(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise DataError(f"{path} is no YAML: {line}{error.problem}") from error
    # PyYAML lets these escape for a date such as 2001-99-99, `!!int x`, `!!bool x`, `!!timestamp x` and the like.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is no YAML: {_first_line(error)}") from error
    if not isinstance(plain, dict):
        raise DataError(f"{path} is no data set", wanted="the keys names, train and val")
    return plain


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _require_flat(events: Iterable[Any], path: Path) -> None:
    """Refuse, before anything is built, what takes memory or stack out of proportion to the file."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise DataError(f"{path} is nested {DEEPEST} levels deep and more", wanted="names, train and val")
        if kind == "ScalarEvent" and event.value == "<<" and event.implicit[0]:
            raise DataError(f"{path}:{event.start_mark.line + 1} merges keys by <<", wanted="every key written out")


def _settings(plain: Mapping[Any, Any], path: Path) -> Settings:
    if plain.get("channels") not in (None, CHANNELS):
        raise DataError(f"{path} has channels {brief(plain['channels'])}", wanted="images of 3 channels")
    splits = {split: _entries(plain, split, path) for split in SPLITS}
    if not splits["train"] and not splits["val"]:
        raise DataError(f"{path} names no images", wanted="the keys train and val, each a folder of images")
    name = plain.get("slimdeploy_name")
    return Settings(
        path=path,
        root=_root(plain.get("path"), path),
        classes=_classes(plain, path),
        splits={split: entries for split, entries in splits.items() if entries},
        keypoint_columns=_keypoint_columns(plain.get("kpt_shape"), path),
        name=_text(name, f"{path}: slimdeploy_name") if name else _folder_name(path),
        rendered=bool(plain.get("slimdeploy_rendered", False)),
        tile=_tile(plain.get("slimdeploy_tile", 0), path),
    )


def _folder_name(path: Path) -> str:
    return path.absolute().parent.resolve().name


def _root(place: Any, path: Path) -> Path:
    if place is not None and not isinstance(place, str):
        raise DataError(f"{path} has the path {brief(place)}", wanted="a folder, relative to the YAML")
    _require_path(place or "", f"{path}: path")
    try:
        return (path.absolute().parent / (place or "")).resolve()
    except (OSError, RuntimeError) as error:  # a link that leads to itself
        raise DataError(f"{path} has the path {brief(place)}: {_why(error)}", wanted="a folder") from error


def _entries(plain: Mapping[Any, Any], split: str, path: Path) -> tuple[str, ...]:
    value = plain.get(split)
    if not value and split == "val":
        value = plain.get("validation")  # as ultralytics reads it
    entries = value if isinstance(value, list) else [value] if value else []
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise DataError(f"{path}: the {split} split names {brief(entry)}", wanted="a folder or a list of images")
        _require_path(entry, f"{path}: the {split} split")
    return tuple(entries)


def _require_path(text: str, where: str) -> None:
    if any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in text):
        raise DataError(f"{where} names {brief(text)}", wanted="a path without control characters")


def _tile(tile: Any, path: Path) -> int:
    if not isinstance(tile, int) or isinstance(tile, bool) or not 0 <= tile < 1 << 31:
        raise DataError(f"{path} has the slimdeploy_tile {brief(tile)}", wanted="a number of pixels")
    return tile


def _keypoint_columns(shape: Any, path: Path) -> int:
    if shape is None:
        return 0
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(count) is int for count in shape)
    if not whole or not 0 <= shape[0] <= MOST_CLASSES or shape[1] not in KEYPOINT_VALUES:
        raise DataError(
            f"{path} has the kpt_shape {brief(shape)}", wanted="keypoints and values of each, as [17, 3] or [17, 2]"
        )
    return int(shape[0] * shape[1])


def _classes(plain: Mapping[Any, Any], path: Path) -> tuple[str, ...]:
    names, count = plain.get("names"), _count(plain.get("nc"), path)
    if names is None and count is not None:
        return tuple(f"class_{number}" for number in range(count))  # as ultralytics names them
    named = _by_number(names, path) if isinstance(names, dict) else names
    if not isinstance(named, list) or not named:
        raise DataError(f"{path} names no classes", wanted="names: {0: first, 1: second, ...}")
    classes = tuple(_text(name, f"{path}: class {number}") for number, name in enumerate(named))
    if count is not None and count != len(classes):
        raise DataError(
            f"{path} has nc {count} and {len(classes)} names", wanted="as many names as nc says", do="correct either"
        )
    _require_distinct(classes, path)
    return classes


def _by_number(names: Mapping[Any, Any], path: Path) -> list[Any]:
    numbers = {number: name for key, name in names.items() if (number := _number(key)) is not None}
    if len(numbers) != len(names) or sorted(numbers) != list(range(len(names))) or len(names) > MOST_CLASSES:
        raise DataError(
            f"{path} numbers its classes {brief(list(names))}",
            wanted=f"0 to {max(len(names) - 1, 0)}, each once" if names else "names: {0: first, 1: second, ...}",
        )
    return [numbers[number] for number in range(len(numbers))]


def _number(key: Any) -> int | None:
    """Return a class number, which may be quoted, or None."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else None
    return key if type(key) is int else None


def _count(count: Any, path: Path) -> int | None:
    """Return `nc`, which may be quoted or written as 4.0."""
    if count is None:
        return None
    number = int(count) if isinstance(count, float) and count.is_integer() else _number(count)
    if number is None or not 0 < number <= MOST_CLASSES:
        raise DataError(f"{path} has nc {brief(count)}", wanted=f"a number of classes, 1 to {MOST_CLASSES}")
    return number


def _text(value: Any, where: str) -> str:
    """Return a name as text, as ultralytics turns it into text; what it would garble is refused."""
    if not isinstance(value, (str, int, float, datetime.date)) or (type(value) is int and abs(value) >= 1 << 64):
        raise DataError(f"{where} is named {brief(value)}", wanted="a name")
    text = str(value)
    if any(sign in _TURNING or unicodedata.category(sign) in _UNPRINTED for sign in text):
        raise DataError(
            f"{where} is named {brief(text)}",
            wanted="a name without line breaks and other control characters, which files of labels cannot hold",
            do="rename the class",
        )
    return text


def _require_distinct(classes: tuple[str, ...], path: Path) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(classes):
        if name in first:
            raise DataError(
                f"{path} names the classes {first[name]} and {number} both {brief(name)}",
                wanted="a name of its own for each class, since scores are given by name",
                do="rename one of them",
            )
        first[name] = number

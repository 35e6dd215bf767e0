"""Targets: the boards and hosts that a model is made for, one TOML file each."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.errors import TargetError, UsageError
from slimdeploy.fields import is_number
from slimdeploy.files import read_toml
from slimdeploy.records import PRECISIONS, TARGET_KINDS, Target

_PACKAGED = Path(__file__).with_name("_targets")  # as installed from a wheel
_CHECKOUT = Path(__file__).parents[1] / "targets"  # in a checkout, also where it is installed as editable
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4})*")
_RUNTIMES = ("onnxruntime", "openvino", "tensorrt")


def load_target(name: str) -> Target:
    """Return one target.

    Args:
        name: of its file, without `.toml`.

    Raises:
        TargetError: there is no such target, or its file is wrong.
    """
    files = _files()
    if name not in files:
        raise TargetError(f"no target {name!r}", wanted=f"one of {', '.join(files)}", do=_advice(name, tuple(files)))
    return read_target(files[name])


def alignment_for(target: Target, precisions: Iterable[str] = ()) -> int:
    """Return the multiple that widths must be of, for every precision that the network will run at on a target.

    Args:
        target: the target.
        precisions: out of fp32, fp16 and int8; none means fp16 where the target gains from it, else fp32.

    Raises:
        TargetError: the target has no alignment for a precision.
    """
    wanted = tuple(precisions) or (("fp16",) if "fp16" in target.precisions else ("fp32",))
    for precision in wanted:
        if precision not in target.alignment:
            raise TargetError(
                f"the target {target.name} does not gain from {precision}",
                wanted=f"one of {', '.join(target.alignment)}",
            )
    return max(target.alignment[precision] for precision in wanted)


def list_targets() -> tuple[Target, ...]:
    """Return every target, sorted by name.

    Raises:
        TargetError: a file is wrong.
    """
    return tuple(read_target(path) for path in _files().values())


def read_target(path: Path) -> Target:
    """Read and check one target's file.

    Args:
        path: TOML with the fields of `Target`, but for `name`, which is the file's.

    Raises:
        TargetError: the file is damaged, or a key or a value in it is wrong; the message names both.
    """
    try:
        raw = read_toml(path, what="target", wanted="a TOML file, as in targets/")
    except UsageError as error:
        raise TargetError(error.wrong, wanted=error.wanted, do=error.do) from error
    fields = {f.name: f for f in dataclasses.fields(Target) if f.name != "name"}
    if unknown := sorted(set(raw) - set(fields)):
        raise TargetError(f"{path} has the unknown key {unknown[0]!r}", wanted=f"one of {', '.join(fields)}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in raw]
    if missing:
        raise TargetError(f"{path} lacks the key {missing[0]!r}", do="add it")
    values = {key: _typed(path, key, str(fields[key].type), value) for key, value in raw.items()}
    target = Target(name=path.stem, **values)
    _check_values(path, target)
    return target


def _files() -> dict[str, Path]:
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    files = {path.stem: path for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)}
    if not files:
        raise TargetError(f"no target files in {folder}", do="install slimdeploy again")
    return files


def _advice(name: str, names: tuple[str, ...]) -> str:
    wanted = name.lower().removeprefix("jetson-")
    close = [n for n in names if wanted and wanted in n] or difflib.get_close_matches(wanted, names, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "list them with 'slimdeploy targets'"


def _is_number(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and is_number(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(one) and one >= 1 for one in value.values())


# What a TOML value must be for a field of Target, by the field's annotation.
_TYPES: Mapping[str, tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = {
    "str": (_is_text, "a text in one line", str),
    "str | None": (_is_text, "a text in one line", str),
    "int": (_is_count, "a whole number of 0 or more", int),
    "int | None": (_is_count, "a whole number of 0 or more", int),
    "float | None": (_is_number, "a number above 0", float),
    "tuple[str, ...]": (_is_texts, "a list of texts", tuple),
    "Mapping[str, int]": (_is_counts, "a table of whole numbers of 1 or more", dict),
    "Mapping[str, int] | None": (_is_counts, "a table of whole numbers of 1 or more", dict),
}


def _typed(path: Path, key: str, annotation: str, value: Any) -> Any:
    holds, wanted, convert = _TYPES[annotation]
    if not holds(value):
        raise TargetError(f"{path}: {key} is {brief(value)}", wanted=wanted)
    return convert(value)


def _check_values(path: Path, target: Target) -> None:
    checks = (
        (target.kind in TARGET_KINDS, "kind", target.kind, f"one of {', '.join(TARGET_KINDS)}"),
        (target.runtime in _RUNTIMES, "runtime", target.runtime, f"one of {', '.join(_RUNTIMES)}"),
        (
            bool(target.precisions) and set(target.precisions) <= set(PRECISIONS),
            "precisions",
            list(target.precisions),
            f"some of {', '.join(PRECISIONS)}",
        ),
        (
            set(target.alignment) == set(target.precisions),
            "alignment",
            dict(target.alignment),
            f"one number for each of {', '.join(target.precisions)}",
        ),
        (
            all(map(_VERSION.fullmatch, target.tensorrt)),
            "tensorrt",
            list(target.tensorrt),
            "versions such as 10.3.0",
        ),
    )
    for holds, key, value, wanted in checks:
        if not holds:
            raise TargetError(f"{path}: {key} is {brief(value)}", wanted=wanted)

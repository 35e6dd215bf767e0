"""Where a file came from: hashes, run.json, and output folders that are whole or not there at all."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slimdeploy import __version__
from slimdeploy._leftovers import remove, sweep, temporary_name
from slimdeploy.board.text import brief
from slimdeploy.errors import UsageError
from slimdeploy.fields import mismatch
from slimdeploy.files import JSON_LIMIT_BYTES, parse_json, read_bytes
from slimdeploy.outputs import make_folder, publish, refuse_existing, whole_file, whole_folder

SCHEMA = 1
RUN_FILE = "run.json"
WORK = "work"  # below a resumable stage's folder, until it is whole
REQUEST = "request.json"  # in there: what the stage was asked for
RECIPE_FILE = "recipe.json"  # tells a recipe's folder from any other, and what it was asked for
RECORDED_PACKAGES = (
    "torch", "ultralytics", "torch-pruning", "onnx", "onnxruntime", "onnxsim", "openvino", "numpy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Input:
    """Something a stage reads.

    Attributes:
        name: as shown.
        sha256: of what it holds.
        left_out: what the stage does not use of it, by the reason; see `data.dataset.counted`.
    """

    name: str
    sha256: str
    left_out: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Return it as it stands in run.json."""
        record: dict[str, Any] = {"name": self.name, "sha256": self.sha256}
        return record | ({"left_out": dict(self.left_out)} if self.left_out else {})


@dataclasses.dataclass(slots=True)
class Run:
    """One stage at work: write into `folder`, put figures into `results`.

    Attributes:
        folder: the temporary folder; it gets its real name when the stage is whole.
        results: figures that end up in run.json.
    """

    folder: Path
    results: dict[str, Any] = dataclasses.field(default_factory=dict)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_input(path: Path) -> Input:
    """Return a file as a stage's input."""
    return Input(path.name, sha256_file(path))


def fingerprint(stage: str, config: Any, inputs: Mapping[str, Input]) -> str:
    """Return what a stage's outcome depends on, as 64 hex digits.

    Args:
        stage: the stage's name.
        config: the stage's config dataclass.
        inputs: what the stage reads, by its role.
    """
    hashes = {role: one.sha256 for role, one in inputs.items()}
    canonical = json.dumps([stage, config_dict(config), hashes], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def config_dict(config: Any) -> dict[str, Any]:
    """Return a stage's config dataclass as JSON-ready settings."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


def with_defaults(config: type[Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings as they would read today: settings that came later stand at their defaults.

    So what an older slimdeploy made is not made again just because a stage learned something new.
    """
    later = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.name not in recorded and field.default is not dataclasses.MISSING
    }
    plain: dict[str, Any] = json.loads(json.dumps({**later, **recorded}, default=str))
    return plain


def versions() -> dict[str, str]:
    """Return the versions that a result depends on; packages that are not installed are left out."""
    from importlib import metadata  # a tenth of what `slimdeploy --help` takes

    found = {"slimdeploy": __version__, "python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def partial_of(out: Path) -> Path:
    """Return where a stage that can be resumed works until it is whole: `out` with `.partial` behind its name."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def resumable_folder(out: Path) -> Iterator[Path]:
    """Give the folder `partial_of(out)` and rename it to `out` when the block ends well.

    On an error it stays where it is if the block made a folder `work` with anything in it, so that work can go on.

    Raises:
        OutputExists: `out` is there already.
        UsageError: the folder that would hold `out` cannot be made.
    """
    finish_resumable(out)
    refuse_existing(out)
    partial = partial_of(out)
    make_folder(partial / WORK)
    for folder in (out.parent, partial, partial / WORK):
        sweep(folder)
    try:
        yield partial
        publish(partial, out)
    except BaseException:
        if (partial / WORK).is_dir() and not any((partial / WORK).iterdir()):
            remove(partial)
        raise
    finish_resumable(out)  # only now: until the rename, `work` is what could be gone on from


def finish_resumable(out: Path) -> None:
    """Remove the folder `work` of a resumable stage that is complete; one killed right after the rename leaves it."""
    if os.path.isfile(out / RUN_FILE) and os.path.isfile(out / WORK / REQUEST):  # noqa: PTH113 - Path's may raise
        gone = out / temporary_name(WORK)  # a folder that is half removed must not look like one to go on from
        (out / WORK).rename(gone)
        remove(gone)
        sweep(out)


@contextmanager
def stage_run(
    stage: str, *, config: Any, inputs: Mapping[str, Input], out: Path, resumable: bool = False
) -> Iterator[Run]:
    """Run one stage: one new folder, with run.json beside its outputs.

    Args:
        stage: the stage's name.
        config: the stage's frozen config dataclass.
        inputs: what is read, by its role.
        out: the folder to make.
        resumable: keep what is done when the stage is stopped, in `partial_of(out)`.

    Raises:
        OutputExists: `out` is there already.
    """
    started = time.perf_counter()
    with resumable_folder(out) if resumable else whole_folder(out) as folder:
        run = Run(folder=folder)
        yield run
        record = {
            "schema": SCHEMA,
            "stage": stage,
            "fingerprint": fingerprint(stage, config, inputs),
            "config": config_dict(config),
            "inputs": {role: one.as_record() for role, one in inputs.items()},
            "outputs": {p.name: sha256_file(p) for p in sorted(folder.iterdir()) if p.is_file()},
            "results": run.results,
            "versions": versions(),
            "seconds": round(time.perf_counter() - started, 3),
        }
        write_json(folder / RUN_FILE, record)


def told(stage: str, config: Any, inputs: Mapping[str, Input]) -> dict[str, Any]:
    """Return how something is made, as it travels with it: the same for the same inputs, so without times and places.

    Args:
        stage: the stage's name.
        config: the stage's config dataclass.
        inputs: what the stage reads, by its role.
    """
    read = {role: one.as_record() for role, one in inputs.items()}
    return {"stage": stage, "config": config_dict(config), "inputs": read}


def told_of(file: Path) -> dict[str, Any] | None:
    """Return how a stage made a file that still lies, unaltered, in its folder; None of any other file."""
    try:
        record = read_run(file.parent)
        known = record["outputs"].get(file.name) == sha256_file(file)
        return {key: record[key] for key in ("stage", "config", "inputs")} if known else None
    except (UsageError, KeyError, AttributeError):
        return None


def read_run(folder: Path) -> dict[str, Any]:
    """Return the run.json of a stage's folder; what an older slimdeploy left out is there, and empty.

    Raises:
        UsageError: there is none, it is damaged, or a newer slimdeploy wrote it.
    """
    record = read_json(folder / RUN_FILE, what="run record")
    for key, (hint, default) in _RUN_FIELDS.items():
        value = record.setdefault(key, copy.copy(default))
        if found := mismatch(hint, value, key):
            raise UsageError(
                f"{folder / RUN_FILE} is damaged: {found.wrong}",
                wanted=found.wanted,
                do="make it again",
            )
    return record


_RUN_FIELDS: Mapping[str, tuple[Any, Any]] = {  # the type of each field of a run.json, and what an older one means
    "stage": (str, None),
    "fingerprint": (str, ""),
    "config": (Mapping[str, Any], {}),
    "inputs": (Mapping[str, Mapping[str, str]], {}),
    "outputs": (Mapping[str, str], {}),
    "results": (Mapping[str, Any], {}),
    "versions": (Mapping[str, str], {}),
    "seconds": (float, 0.0),
}


def read_json(path: Path, *, what: str, limit_bytes: int = JSON_LIMIT_BYTES) -> dict[str, Any]:
    """Return a JSON object that slimdeploy wrote, after checking its schema.

    Args:
        path: the file.
        what: what to call it in messages.
        limit_bytes: its largest size.

    Raises:
        UsageError: the file is missing, damaged, too large, or of a newer schema.
    """
    raw = read_bytes(path, what=what, limit_bytes=limit_bytes, wanted=f"a file that slimdeploy wrote as {path.name}")
    record = parse_json(raw, where=str(path), what=what)
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int) or record["schema"] is True:
        raise UsageError(f"{path} is not a {what}: it names no schema", do="make it again")
    if record["schema"] > SCHEMA:
        raise UsageError(
            f"{path} has schema {brief(record['schema'])}", wanted=f"schema {SCHEMA} or older", do="upgrade slimdeploy"
        )
    return record


def write_json(path: Path, record: Mapping[str, Any], *, replace: bool = True) -> None:
    """Write a JSON object so that it is either whole or not there; an older one is replaced unless that is not meant.

    Raises:
        OutputExists: `path` is there, and `replace` is not set.
    """
    with whole_file(path, replace=replace) as partial:
        partial.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")

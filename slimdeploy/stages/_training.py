"""What the training stages do alike: remember what was asked, go on where they were stopped, keep the weights."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.configs import Config, build
from slimdeploy.errors import OutputExists, SlimdeployError, UsageError
from slimdeploy.fields import mismatch
from slimdeploy.lineage import (
    WORK,
    Input,
    Run,
    config_dict,
    fingerprint,
    partial_of,
    read_json,
    stage_run,
    versions,
    write_json,
)

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from slimdeploy.yolo.training import Trained

REQUEST = "request.json"
LOCK, LOCK_TIMEOUT_S = "lock", 15.0
TUNED, TAUGHT = "tuned", "taught"  # a recipe's fine-tuned models: without and with a teacher beside it

log = logging.getLogger("slimdeploy.train")
# A training goes on only under the versions that it began with: another trainer would end elsewhere.
BOUND_TO = ("slimdeploy", "torch", "ultralytics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a training stage was asked for.

    Attributes:
        stage: `train`, `sparsify` or `finetune`.
        config: the stage's config.
        inputs: what it reads, by its role, with hashes.
        paths: where those inputs lie, by the same roles.
        out: the folder to make.
    """

    stage: str
    config: Any
    inputs: Mapping[str, Input]
    paths: Mapping[str, Path]
    out: Path


@contextmanager
def training_run(request: Request) -> Iterator[Run]:
    """Run a training stage in `partial_of(request.out)`, anew or on from what lies there.

    Raises:
        OutputExists: `request.out` is there already, or a training with other settings is unfinished beside it.
        UsageError: another process trains in that folder now.
    """
    partial = partial_of(request.out)
    if (partial / WORK).exists():
        _require_same(partial, request)
    with stage_run(request.stage, config=request.config, inputs=request.inputs, out=request.out, resumable=True) as run:
        lock = _locked(run.folder)
        try:
            write_json(run.folder / WORK / REQUEST, _as_json(request))
            yield run
        except (SlimdeployError, KeyboardInterrupt):
            lock.release()
            _leave(run.folder, request.stage)
            raise
        finally:
            lock.release()  # before the folder gets its name, since Windows renames none with an open file


def _locked(folder: Path) -> BaseFileLock:
    """Return the lock of a folder, held; the system lets go of it when the process ends, however it ends.

    A killed process's data loaders hold it until they notice, within seconds.
    """
    with needs("train"):
        from filelock import FileLock, Timeout

    lock = FileLock(folder / WORK / LOCK)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout as error:
        raise UsageError(
            f"another process trains in {folder} now",
            wanted="a single one at a time",
            do="wait until it ends, or name another folder with --out",
        ) from error
    return lock


def _leave(folder: Path, stage: str) -> None:
    """Say how to go on with a training that stops; leave nothing behind of one that has no whole epoch yet."""
    from slimdeploy.yolo.progress import STATE

    if (folder / WORK / STATE).exists():
        log.warning("the epochs so far are kept; go on with: slimdeploy %s --resume %s", stage, folder)
    else:
        shutil.rmtree(folder / WORK)
        (folder / WORK).mkdir()


def unfinished_fingerprint(out: Path) -> str:
    """Return what identifies the unfinished training of a folder that is to be made, or "" where there is none."""
    path = partial_of(out) / WORK / REQUEST
    return str(read_json(path, what="training").get("fingerprint")) if path.exists() else ""


def _require_same(partial: Path, request: Request) -> None:
    if unfinished_fingerprint(request.out) != fingerprint(request.stage, request.config, request.inputs):
        raise OutputExists(
            f"an unfinished training with other settings, data or weights lies in {partial}",
            wanted="a free name, since nothing is overwritten",
            do=f"go on with it by --resume {partial}, name another with --out, or remove it",
        )


def _as_json(request: Request) -> dict[str, Any]:
    return {
        "schema": 1,
        "stage": request.stage,
        "fingerprint": fingerprint(request.stage, request.config, request.inputs),
        "config": config_dict(request.config),
        "inputs": {role: dataclasses.asdict(one) for role, one in request.inputs.items()},
        "paths": {role: str(path.resolve()) for role, path in request.paths.items()},
        "out": str(request.out.resolve()),
        "versions": versions(),
    }


def resume(folder: Path, stage: str, config: type[Config], start: Callable[..., Path]) -> Path:
    """Go on with a training that was stopped.

    Args:
        folder: its unfinished folder, or the name that it was to get.
        stage: the stage that it must be of.
        config: that stage's config.
        start: the stage itself, called with the settings that the folder holds, as `paths`, `config` and `out`.

    Raises:
        UsageError: there is no unfinished training, or it is of another stage, other versions or changed inputs.
    """
    plain = _read_request(folder, stage)
    request = Request(
        stage=stage,
        config=build(config, plain["config"]),
        inputs={role: Input(one.get("name", ""), one.get("sha256", "")) for role, one in plain["inputs"].items()},
        paths={role: Path(path) for role, path in plain["paths"].items()},
        out=Path(plain["out"]),
    )
    partial = _unfinished(folder)
    if partial_of(request.out) != partial.resolve():  # the folder was moved; it goes on where it is now
        request = dataclasses.replace(request, out=partial.resolve().with_name(partial.name.removesuffix(".partial")))
    return start(paths=request.paths, config=request.config, out=request.out)


_REQUEST_FIELDS: Mapping[str, Any] = {
    "stage": str, "config": Mapping[str, Any], "inputs": Mapping[str, Mapping[str, str]], "paths": Mapping[str, str],
    "out": str, "versions": Mapping[str, str],
}  # fmt: skip


def _unfinished(folder: Path) -> Path:
    return folder if (folder / WORK / REQUEST).exists() else partial_of(folder)


def _read_request(folder: Path, stage: str) -> dict[str, Any]:
    path = _unfinished(folder) / WORK / REQUEST
    if not path.exists():
        raise UsageError(
            f"no unfinished training in {folder}",
            wanted="the .partial folder that a stopped train, sparsify or finetune left",
            do="begin it anew with --out" if not folder.exists() else "name the .partial folder beside it",
        )
    plain = read_json(path, what="training")
    for key, hint in _REQUEST_FIELDS.items():
        if found := mismatch(hint, plain.get(key), key):
            raise UsageError(f"{path} is damaged: {found.wrong}", wanted=found.wanted, do="begin it again with --out")
    if plain["stage"] != stage:
        raise UsageError(
            f"{folder} is an unfinished {plain['stage']}", wanted=f"an unfinished {stage}",
            do=f"slimdeploy {plain['stage']} --resume {folder}",
        )  # fmt: skip
    _require_versions(folder, plain["versions"])
    return plain


def _require_versions(folder: Path, began: Mapping[str, str]) -> None:
    now = versions()
    for name in BOUND_TO:
        if began.get(name) != now.get(name):
            raise UsageError(
                f"{folder} was begun with {name} {began.get(name)}, and {now.get(name)} is installed",
                wanted="the versions that it was begun with, since another trainer would end elsewhere",
                do=f"pip install {name}=={began.get(name)}, or begin anew with --out",
            )


def keep_weights(trained: Trained, run: Run, *, name: str, which: str) -> None:
    """Write a training's weights as a checkpoint, and note its epochs.

    Args:
        trained: the finished training.
        run: the stage at work.
        name: file name in the stage's folder.
        which: `best` or `last`.
    """
    from slimdeploy.yolo import checkpoint

    checkpoint.save(trained.network, run.folder / name, origin={"kept": which, "epochs": len(trained.epochs)})
    run.results.update(
        epochs=len(trained.epochs),
        kept=which,
        best_epoch=trained.best_epoch,
        training_s=round(sum(epoch["seconds"] for epoch in trained.epochs), 1),
        compute=trained.setup.compute,
        mended=list(trained.setup.mended),
        history=list(trained.epochs),
    )

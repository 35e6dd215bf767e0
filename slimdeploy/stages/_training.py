"""What the training stages do alike: remember what was asked, go on where they were stopped, keep the weights."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._alone import LOCK, alone_at
from slimdeploy._leftovers import beside, remove, sweep
from slimdeploy._rename import output_exists
from slimdeploy.configs import Config, build
from slimdeploy.errors import OutputExists, SlimdeployError, UsageError
from slimdeploy.fields import mismatch
from slimdeploy.lineage import (
    REQUEST,
    RUN_FILE,
    WORK,
    Input,
    Run,
    config_dict,
    fingerprint,
    finish_resumable,
    partial_of,
    read_json,
    stage_run,
    versions,
    write_json,
)
from slimdeploy.outputs import refuse_existing

if TYPE_CHECKING:
    from slimdeploy.yolo.training import Trained

LOCK_TIMEOUT_S = 15.0  # a killed process's data loaders hold its lock until they notice, within seconds
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
    refuse_complete(request.out)  # before the lock is waited for
    with alone_at(beside(request.out, LOCK), wait_s=LOCK_TIMEOUT_S, busy=lambda: _busy(request.out)):
        if request.out.exists():
            raise output_exists(request.out, "another process has just finished it")
        partial = partial_of(request.out)
        if _has_epochs(partial):
            _require_same(partial, request)
        else:
            _clear(partial)
        with stage_run(
            request.stage, config=request.config, inputs=request.inputs, out=request.out, resumable=True
        ) as run:
            write_json(run.folder / WORK / REQUEST, _as_json(request))
            try:
                yield run
            except (SlimdeployError, KeyboardInterrupt):
                _leave(run.folder, request.stage)
                raise


def refuse_complete(out: Path) -> None:
    """Raise, before any work is done, where a training cannot make its output; see `outputs.refuse_existing`."""
    finish_resumable(out)
    refuse_existing(out)


def _busy(out: Path) -> UsageError:
    return UsageError(
        f"another process trains in {partial_of(out)} now",
        wanted="a single one at a time",
        do="wait until it ends, or name another folder with --out",
    )


def _has_epochs(partial: Path) -> bool:
    """Return whether an unfinished training has a whole epoch; without one, there is nothing to go on from."""
    from slimdeploy.yolo.progress import STATE

    return (partial / WORK / STATE).exists()


def _clear(partial: Path) -> None:
    """Remove what a process left that was killed before its first epoch was complete, or even before its request."""
    remove(partial / WORK)
    sweep(partial)
    if partial.exists() and (not partial.is_dir() or any(partial.iterdir())):
        raise OutputExists(
            f"{partial} exists and is no unfinished training", do="name another with --out, or remove it"
        )


def _leave(folder: Path, stage: str) -> None:
    """Say how to go on with a training that stops; leave nothing behind of one that has no whole epoch yet."""
    if _has_epochs(folder):
        log.warning("the epochs so far are kept; go on with: slimdeploy %s --resume %s", stage, folder)
    else:
        remove(folder / WORK)
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
        "inputs": {role: one.as_record() for role, one in request.inputs.items()},
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
            do="name the .partial folder beside it" if (folder / RUN_FILE).exists() else "begin it again with --out",
        )
    plain = read_json(path, what="training")
    for key, hint in _REQUEST_FIELDS.items():
        if found := mismatch(hint, plain.get(key), key):
            raise UsageError(f"{path} is damaged: {found.wrong}", wanted=found.wanted, do="begin it again with --out")
    if not Path(plain["out"]).name:
        raise UsageError(f"{path} is damaged: it names no folder to make", do="begin it again with --out")
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

"""The application: its verbs, and what is said of how it ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path

import typer

from slimdeploy import __version__
from slimdeploy.board.text import one_line
from slimdeploy.cli import (
    _logs,
    bench,
    build,
    bundle,
    compare,
    data,
    demo,
    doctor,
    ending,
    export,
    finetune,
    gate,
    latency,
    plan,
    prune,
    run,
    search,
    ship,
    sparsify,
    targets,
    train,
    val,
    visdrone,
)
from slimdeploy.errors import INTERRUPTED_EXIT_CODE, SlimdeployError, StageFailed, UsageError
from slimdeploy.outputs import FULL, cannot_write

# Typer brings its own click since 0.2x and uses the installed one before; this is the base error of either.
_ParseError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="slimdeploy",
    help="Make a YOLOv8 detector physically smaller, measure it, and ship it to the board that flies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in (
    train, sparsify, latency, prune, finetune, val, export, build, bench, compare, gate, run, ship, demo, visdrone,
    targets, doctor,
):  # fmt: skip
    app.command(name=verb.NAME)(verb.command)
app.add_typer(bundle.app, name=bundle.NAME)
app.add_typer(data.app, name=data.NAME)
app.add_typer(plan.app, name=plan.NAME)
app.add_typer(search.app, name=search.NAME)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def execute(noted: list[int]) -> int:
    """Run the command line and return the exit code of what happened.

    Args:
        noted: the signals that came, which `slimdeploy.cli` adds to.
    """
    _logs.begin()
    try:
        require_working_folder()
        code = app(prog_name="slimdeploy", standalone_mode=False)
        if code == INTERRUPTED_EXIT_CODE:  # newer Typer turns Ctrl-C into this code and says nothing
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is raised again by _told
        code = _told(KeyboardInterrupt() if noted else error, noted)
    finally:
        _logs.end_live_line()
    return code if isinstance(code, int) else 0


def require_working_folder() -> None:
    """Raise UsageError where the working directory was removed, which libraries answer by aborting the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError("the working directory is gone", do="change into one that exists") from error


def _told(error: BaseException, noted: list[int]) -> int:
    """Say what happened in one line and return its exit code; an error that is a bug is raised again."""
    if isinstance(error, _ParseError):
        error.message = one_line(error.message)  # type: ignore[attr-defined]
        error.show()  # type: ignore[attr-defined]
        return int(error.exit_code)  # type: ignore[attr-defined]
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        number = noted[0] if noted else signal.SIGINT
        _logs.end_live_line()
        sys.stderr.write(f"slimdeploy: {ending(number)}\n")
        return 128 + number
    if isinstance(error, SlimdeployError):
        return _tell(error)
    if isinstance(error, OSError):
        return _tell(_named(error))
    raise error


def _named(error: OSError) -> SlimdeployError:
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    if error.errno in FULL or (place is not None and error.errno in (errno.EROFS, errno.ENAMETOOLONG)):
        return cannot_write(error, place or Path())
    return StageFailed(f"the system refused: {error}")


def _tell(error: SlimdeployError) -> int:
    _logs.end_live_line()
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(error.as_json()) + "\n")
    sys.stderr.write(f"slimdeploy: {error}\n")
    return error.exit_code

"""The command line: one file a verb, each of which parses, calls one stage and prints."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import signal
import sys
from collections.abc import Iterator

import typer

from slimdeploy import __version__
from slimdeploy.board.text import one_line
from slimdeploy.cli import (
    bench,
    build,
    bundle,
    compare,
    demo,
    doctor,
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
from slimdeploy.cli._shared import log_handler
from slimdeploy.errors import INTERRUPTED_EXIT_CODE, SlimdeployError, StageFailed

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
app.add_typer(plan.app, name=plan.NAME)
app.add_typer(search.app, name=search.NAME)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line and end the process with the exit code of what happened."""
    for stream in (sys.stdout, sys.stderr):  # a console of an old code page shows "?" for a dash and goes on
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.INFO, handlers=[log_handler()])
    with _noting_interrupts() as interrupts:
        try:
            code = app(prog_name="slimdeploy", standalone_mode=False)
            if code == INTERRUPTED_EXIT_CODE:  # newer Typer turns Ctrl-C into this code and says nothing
                raise KeyboardInterrupt
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is raised again by _told
            code = _told(KeyboardInterrupt() if interrupts else error)
    sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Note each Ctrl-C before it is raised: a library that is being imported may swallow it and fail in its own way."""
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where Ctrl-C is ignored, as in a job in the background
        signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def _told(error: BaseException) -> int:
    """Say what happened in one line and return its exit code; an error that is a bug is raised again."""
    if isinstance(error, _ParseError):
        error.message = one_line(error.message)  # type: ignore[attr-defined]
        error.show()  # type: ignore[attr-defined]
        return int(error.exit_code)  # type: ignore[attr-defined]
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        sys.stderr.write("slimdeploy: interrupted; nothing half-written was left behind\n")
        return INTERRUPTED_EXIT_CODE
    if isinstance(error, SlimdeployError):
        return _tell(error)
    if isinstance(error, OSError):
        return _tell(_named(error))
    raise error


def _named(error: OSError) -> StageFailed:
    if error.errno == errno.ENOSPC:
        return StageFailed("the disk is full", do="free some space and run the same command again")
    return StageFailed(f"the system refused: {error}")


def _tell(error: SlimdeployError) -> int:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(error.as_json()) + "\n")
    sys.stderr.write(f"slimdeploy: {error}\n")
    return error.exit_code

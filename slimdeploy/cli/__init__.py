"""The command line: one file a verb, each of which parses, calls one stage and prints."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys

import typer

from slimdeploy import __version__
from slimdeploy.cli import (
    bench,
    compare,
    demo,
    doctor,
    export,
    finetune,
    gate,
    prune,
    run,
    sparsify,
    targets,
    train,
    val,
    visdrone,
)
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
for verb in (train, sparsify, prune, finetune, val, export, bench, compare, gate, run, demo, visdrone, targets, doctor):
    app.command(name=verb.NAME)(verb.command)


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
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        code = app(prog_name="slimdeploy", standalone_mode=False)
        if code == INTERRUPTED_EXIT_CODE:  # newer Typer turns Ctrl-C into this code and says nothing
            raise KeyboardInterrupt
    except _ParseError as error:
        error.show()  # type: ignore[attr-defined]
        code = error.exit_code  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("slimdeploy: interrupted; nothing half-written was left behind\n")
        code = INTERRUPTED_EXIT_CODE
    except SlimdeployError as error:
        code = _tell(error)
    except OSError as error:
        code = _tell(_named(error))
    sys.exit(code if isinstance(code, int) else 0)


def _named(error: OSError) -> StageFailed:
    if error.errno == errno.ENOSPC:
        return StageFailed("the disk is full", do="free some space and run the same command again")
    return StageFailed(f"the system refused: {error}")


def _tell(error: SlimdeployError) -> int:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps(error.as_json()) + "\n")
    sys.stderr.write(f"slimdeploy: {error}\n")
    return error.exit_code

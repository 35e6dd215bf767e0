"""The command line: one file a verb, each of which parses, calls one stage and prints.

This module imports next to nothing, so that Ctrl-C and a request to end are answered from the first moment on; all
else is imported in `main`.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all the others here
if TYPE_CHECKING:
    from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def main() -> None:
    """Run the command line and end the process with the exit code of what happened."""
    noted: list[int] = []
    before = _answer(noted)
    try:
        code = _run(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(code)


def _run(noted: list[int]) -> int:
    try:
        from slimdeploy.cli import _app, _streams
    except (Exception, KeyboardInterrupt):
        if not noted:
            raise
        sys.stderr.write(f"slimdeploy: {ending(noted[0])}\n")
        return 128 + noted[0]
    with _streams.unfailing() as result:
        code = _app.execute(noted)
        return result.code(code)


def _answer(noted: list[int]) -> dict[int, Any]:
    """Let each signal that ends a process unwind it as Ctrl-C does, and be noted; return the handlers of before.

    It is noted before anything is raised, since a library that is being imported may swallow what is raised and fail
    in its own way.
    """
    owner = os.getpid()

    def answer(number: int, _frame: object) -> None:
        if os.getpid() != owner and number != signal.SIGINT:  # a data loader that was forked: it ends at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        noted.append(number)
        raise KeyboardInterrupt

    before: dict[int, Any] = {}
    for number in SIGNALS:
        known = signal.getsignal(number)
        if known in (signal.SIG_DFL, signal.default_int_handler):  # not where it is ignored, as by nohup
            before[number] = known
            signal.signal(number, answer)
    return before


def ending(number: int) -> str:
    """Return what a person is told of a process that a signal ended."""
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    return f"{how}; nothing half-written was left behind"


def __getattr__(name: str) -> Any:
    """Give `app`, the Typer application, when it is asked for."""
    if name != "app":
        raise AttributeError(name)
    from slimdeploy.cli._app import app

    return app

"""`python3 agent.pyz VERB`: what the agent does on the board, verb by verb."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from slimdeploy.board.errors import INTERRUPTED_EXIT_CODE, TERMINATED_EXIT_CODE, AgentError, DeviceError, UsageError
from slimdeploy.board.machine import Machine, this_machine
from slimdeploy.board.release_verbs import add_release_verbs
from slimdeploy.board.text import printable_lines

ENGINES = "engines"  # below the bundle, unless --cache names another folder

Outcome = Mapping[str, Any]
Verb = Callable[[argparse.Namespace, Machine], "tuple[Outcome, str]"]


# Verbs whose work is done, and stays, where only their last words cannot be written.
MAKERS = ("build", "receive", "activate", "rollback", "prune", "service")


class Terminated(BaseException):
    """The system asks the agent to end: what it writes is finished, and what it changed is put back."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb, print its outcome and return the exit code."""
    stdout_is_closed = _open_standard_streams()
    arguments = _parser().parse_args(argv)
    try:
        return _run_verb(arguments, stdout_is_closed=stdout_is_closed)
    except (KeyboardInterrupt, Terminated) as ended:
        interrupted = isinstance(ended, KeyboardInterrupt)
        sys.stderr.write(f"agent: {'interrupted' if interrupted else 'terminated'}\n")
        return INTERRUPTED_EXIT_CODE if interrupted else TERMINATED_EXIT_CODE
    except AgentError as error:
        failed = error
    except BrokenPipeError:
        failed = AgentError("nobody reads the output any more")
    except OSError as error:
        failed = DeviceError(f"the system refused: {error}")
    _written(json.dumps(failed.as_json()) if arguments.json else "")
    sys.stderr.write(f"agent: {failed}\n")
    return failed.exit_code


def _run_verb(arguments: argparse.Namespace, *, stdout_is_closed: bool) -> int:
    if stdout_is_closed and arguments.name == "run" and arguments.out is None:
        raise UsageError("stdout is closed", wanted="somewhere to write to", do="name a file with --out")
    with _ending_in_order():
        outcome, text = arguments.verb(arguments, this_machine(os.environ))
    shown = json.dumps(outcome) if arguments.json else printable_lines(text)
    wrong = "stdout is closed" if stdout_is_closed else _written(shown)
    if not wrong:
        return 0
    done = arguments.name in MAKERS or getattr(arguments, "out", None) is not None
    sys.stderr.write(f"agent: {'done, but ' if done else ''}the outcome cannot be written: {wrong}\n")
    return 0 if done else AgentError.exit_code


def _written(text: str) -> str:
    """Write a line to stdout; return why that failed, or "". Afterwards nothing is left that could fail at the end."""
    try:
        sys.stdout.write(f"{text}\n" if text else "")
        sys.stdout.flush()
        return ""
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error.strerror or str(error)


def _open_standard_streams() -> bool:
    """Let stdin, stdout and stderr be open, so that no file takes their place; return whether stdout was closed."""
    closed = sys.stdout is None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if closed:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as above
    return closed


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Turn the first SIGTERM or SIGHUP into Terminated; further ones do not stop what is put in order then."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def end(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent", description="The board's side of a slimdeploy bundle.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add(verbs, "probe", _probe, "what board this is and what it brings")
    _with_engine(_add(verbs, "build", _build, "build the engine with what the board has"))
    _with_engine(_add(verbs, "check", _check, "run the golden sample through the engine"))
    timed = _with_engine(_add(verbs, "bench", _bench, "time the engine, with the board's telemetry"))
    timed.add_argument("--samples", type=int, default=200, metavar="N", help="timed calls")
    timed.add_argument("--rounds", type=int, default=10, metavar="N", help="parts that they are recorded in")
    timed.add_argument("--power-mode", default="", metavar="NAME", help="hold this mode of nvpmodel meanwhile")
    timed.add_argument("--lock-clocks", action="store_true", help="hold all clocks at their highest meanwhile")
    _with_wishes(_with_engine(_add(verbs, "run", _run, "frames to detections, a JSON line for each")))
    add_release_verbs(lambda name, verb, what: _add(verbs, name, verb, what))
    return parser


def _with_wishes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a folder, a file, a camera's number, rtsp://..., or a GStreamer pipeline")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the lines go; by default stdout")
    parser.add_argument("--annotate", default="", metavar="FILE.mp4", help="draw the boxes into a video")
    parser.add_argument("--conf", type=float, default=0.25, metavar="SHARE", help="lowest score of a box")
    parser.add_argument("--iou", type=float, default=0.7, metavar="SHARE", help="overlap of NMS")
    parser.add_argument("--max-det", type=int, default=300, metavar="N", help="boxes kept of a frame")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="stop after as many")
    parser.add_argument("--patience", type=float, default=0.0, metavar="S", help="end when a camera is away for longer")


def _add(verbs: Any, name: str, verb: Verb, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=what, description=what)
    parser.set_defaults(verb=verb, name=name)
    parser.add_argument("--bundle", type=Path, default=_own_folder(), metavar="DIR", help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return parser


def _with_engine(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where engines lie; by default in the bundle")
    parser.add_argument("--graph", default="", metavar="FILE", help="of the bundle; by default the recommended one")
    parser.add_argument("--runtime", default="", metavar="NAME", help="tensorrt or onnxruntime")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of ONNX Runtime; by default every core")
    parser.add_argument("--dla", type=int, default=-1, metavar="CORE", help="the DLA core of a TensorRT engine (fp16)")
    return parser


def _own_folder() -> Path:
    """The folder that agent.pyz lies in: it travels inside the bundle."""
    return Path(sys.argv[0]).resolve().parent


def _probe(arguments: argparse.Namespace, machine: Machine) -> tuple[Outcome, str]:
    from slimdeploy.board.probe import as_text, probe

    facts = probe(machine, arguments.bundle)
    return facts, as_text(facts)


def _build(arguments: argparse.Namespace, machine: Machine) -> tuple[Outcome, str]:
    from slimdeploy.board.build import as_text, build
    from slimdeploy.board.bundle import read_bundle

    result = build(read_bundle(arguments.bundle, arguments.graph), _engines(arguments, machine))
    return result, as_text(result)


def _check(arguments: argparse.Namespace, machine: Machine) -> tuple[Outcome, str]:
    from slimdeploy.board.bundle import read_bundle
    from slimdeploy.board.check import as_text, check

    result = check(read_bundle(arguments.bundle, arguments.graph), _engines(arguments, machine))
    return result, as_text(result)


def _bench(arguments: argparse.Namespace, machine: Machine) -> tuple[Outcome, str]:
    from slimdeploy.board.bench import Plan, as_text, bench
    from slimdeploy.board.bundle import read_bundle

    plan = Plan(
        samples=arguments.samples,
        rounds=arguments.rounds,
        power_mode=arguments.power_mode,
        lock_clocks=arguments.lock_clocks,
    )
    result = bench(read_bundle(arguments.bundle, arguments.graph), _engines(arguments, machine), plan)
    return result, as_text(result)


def _run(arguments: argparse.Namespace, machine: Machine) -> tuple[Outcome, str]:
    from slimdeploy.board.bundle import read_bundle
    from slimdeploy.board.run import Wishes, as_text, run

    wishes = Wishes(
        conf=arguments.conf,
        iou=arguments.iou,
        max_det=arguments.max_det,
        frames=arguments.frames,
        patience_s=arguments.patience,
        annotate=arguments.annotate,
    )
    bundle, engines = read_bundle(arguments.bundle, arguments.graph), _engines(arguments, machine)
    if arguments.out is None:
        result = run(bundle, engines, arguments.source, wishes, sys.stdout)
    else:
        with arguments.out.open("w", encoding="utf-8") as out:
            result = run(bundle, engines, arguments.source, wishes, out)
    return result, as_text(result)


def _engines(arguments: argparse.Namespace, machine: Machine) -> Any:
    from slimdeploy.board.sessions import Engines

    return Engines(
        machine=machine,
        cache=arguments.cache or arguments.bundle / ENGINES,
        runtime=arguments.runtime,
        threads=arguments.threads,
        dla_core=arguments.dla,
    )

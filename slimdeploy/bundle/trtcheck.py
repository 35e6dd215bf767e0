"""Ask NVIDIA's own ONNX parser whether it reads a graph: a gate that needs neither a board nor a GPU.

The parser is TensorRT-RTX's, as the extra `trtcheck` brings it for Linux on x86-64. Like TensorRT from 11 on it takes
every type from the graph. What it accepts, an older TensorRT may still refuse, and its engines run on no Jetson, so
`accepted` is less than a run on a board. It lies in this room because it judges a file that goes into a bundle, and
its verdict stands in the manifest. It runs in a process of its own: if the native library crashes or hangs, that is
an outcome to report, and no graph counts as accepted for it.
"""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slimdeploy._needs import EXTRAS, is_installed, pip_line
from slimdeploy.bench.process import worker_environment
from slimdeploy.errors import GateError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, parse_json, read_bytes, why_malformed
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Target

log = logging.getLogger("slimdeploy.bundle")

EXTRA = "trtcheck"
CHILD = "slimdeploy.bundle.trtcheck_child"
KINDS = ("cuda", "jetson")  # of targets that TensorRT may run on
TIMEOUT_S = 120.0  # YOLOv8n takes 2 s with two busy cores
ANSWER_LIMIT_BYTES = 16 << 20
SHOWN_LINES = 3  # of what a dead process said
SHOWN_COMPLAINTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One error of NVIDIA's parser or builder, in its own words.

    Attributes:
        code: the library's name of the error, such as "UNSUPPORTED_NODE".
        node: name of the graph's node, "" where the error is of none.
        operator: of that node.
        description: the message.
    """

    code: str
    node: str
    operator: str
    description: str

    def __str__(self) -> str:
        where = f" at {self.operator or 'a node'} {self.node!r}" if self.node or self.operator else ""
        return f"{self.code}{where}: {' '.join(self.description.split())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What NVIDIA's parser says of a graph.

    Attributes:
        outcome: whether it accepted or refused the graph; "not run" also where it crashed or gave no answer.
        parser: name and version, such as "TensorRT-RTX 1.7.1.116"; "" where it was not run.
        complaints: why it refused; empty unless it did.
        reason: why there is no verdict; "" unless it was not run.
        built: whether an engine was built, too.
    """

    outcome: Literal["accepted", "refused", "not run"]
    parser: str = ""
    complaints: tuple[Complaint, ...] = ()
    reason: str = ""
    built: bool = False

    def as_manifest(self) -> dict[str, str]:
        """Return what the manifest's section `board` says of it."""
        told: dict[str, str] = {"nvidia_parser": self.outcome}
        if self.parser:
            told["nvidia_parser_version"] = self.parser
        if self.reason:
            told["nvidia_parser_reason"] = self.reason
        return told


NOT_ASKED = Verdict(outcome="not run", reason="it was not asked")


def require_accepted(graph: Path, target: Target) -> Verdict:
    """Return what NVIDIA's parser says of a graph that goes to a target, and let none pass that it refuses.

    Args:
        graph: an ONNX file.
        target: what it is for; the parser is asked for targets of the kinds in `KINDS`.

    Raises:
        GateError: the parser refuses the graph.
    """
    if target.kind not in KINDS:
        return _not_run(f"a target of the kind {target.kind} has no TensorRT")
    verdict = check_graph(graph)
    if verdict.outcome == "refused":
        said = " | ".join(str(one) for one in verdict.complaints[:SHOWN_COMPLAINTS])
        more = len(verdict.complaints) - SHOWN_COMPLAINTS
        raise GateError(
            f"NVIDIA's parser ({verdict.parser}) refuses {graph.name}: {said}" + (f" | and {more} more" * (more > 0)),
            wanted="a graph that TensorRT reads",
            do="report this with the message, and try another --precision until it is mended",
        )
    return verdict


def check_graph(graph: Path, *, build: bool = False, timeout_s: float = TIMEOUT_S) -> Verdict:
    """Return what NVIDIA's parser says of a graph; asked in a process of its own.

    Args:
        graph: an ONNX file.
        build: also build an engine, for a GPU that need not be there. It runs on no Jetson, and TensorRT-RTX cannot
            build all that TensorRT can, so a refusal here need not be one on the board.
        timeout_s: longest time for the answer.
    """
    if missing := _why_not():
        return _not_run(missing)
    with scratch_folder() as folder:
        answer = Path(folder) / "answer.json"
        flags = ["--build"] if build else []
        command = [sys.executable, "-m", CHILD, str(graph.resolve()), str(answer), *flags]
        failed = _run(command, timeout_s) or ("" if answer.is_file() else "its process ended without an answer")
        if failed:
            log.warning("NVIDIA's parser gave no verdict on %s: %s", graph.name, failed)
            return _not_run(failed)
        try:
            raw = read_bytes(answer, what="answer of the parser", limit_bytes=ANSWER_LIMIT_BYTES)
            return _verdict(parse_json(raw, where="its answer", what="verdict"))
        except MALFORMED as error:
            log.warning("NVIDIA's parser gave no verdict on %s: %s", graph.name, why_malformed(error))
            return _not_run(f"its answer cannot be read: {why_malformed(error)}")


def _why_not() -> str:
    """Return why the parser cannot be asked here, "" if it can; imports nothing of it."""
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        return "NVIDIA publishes it for Linux on x86-64 alone"
    if not all(is_installed(module) for module in EXTRAS[EXTRA]):
        return f"the extra {EXTRA} is not installed: {pip_line(EXTRA)}"
    return ""


def _run(command: list[str], timeout_s: float) -> str:
    """Run the child; return how it failed, "" if it did not."""
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=worker_environment(1),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its process gave no answer within {timeout_s:g} s"
    if ended.returncode == 0:
        return ""
    code = ended.returncode
    lines = [line.strip() for line in ended.stdout.decode(errors="replace").splitlines() if line.strip()]
    said = f"; it said: {' | '.join(lines[-SHOWN_LINES:])}" if lines else ""
    return f"its process died with {f'signal {-code}' if code < 0 else f'exit code {code}'}{said}"


def _verdict(answer: Mapping[str, Any]) -> Verdict:
    complaints = tuple(Complaint(**one) for one in answer["complaints"])
    outcome: Literal["accepted", "refused"] = "refused" if complaints else "accepted"
    verdict = Verdict(outcome=outcome, parser=answer["parser"], complaints=complaints, built=answer["built"])
    require(verdict)
    return verdict


def _not_run(reason: str) -> Verdict:
    return Verdict(outcome="not run", reason=reason)

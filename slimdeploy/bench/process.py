"""One worker process, seen from the parent: started, asked, and gone in the end whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import slimdeploy
from slimdeploy import errors
from slimdeploy._cores import usable_cores
from slimdeploy.errors import DeviceError

SHOWN_LINES = 3  # of a dead worker's stderr
CLOSE_S = 2.0  # for a worker to end by itself
POLL_S = 0.5  # Windows cannot interrupt a wait by Ctrl-C, so waits are short
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Worker:
    """A process that holds one session; use it in a `with` block.

    Args:
        name: the artifact's name, for messages.
        threads: intra-op threads; 0 takes every core this process may use.
        timeout_s: longest time for one answer.
        module: what the process runs.
    """

    def __init__(self, name: str, *, threads: int, timeout_s: float, module: str = "slimdeploy.bench.worker") -> None:
        self.name, self._timeout_s = name, timeout_s
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=worker_environment(threads or usable_cores()),
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, do: str, *, takes_s: float = 0.0, **request: Any) -> dict[str, Any]:
        """Return the worker's answer to one request.

        Args:
            do: the request's name.
            takes_s: for how long the worker is asked to work, beyond which the time limit counts.
            request: what else the worker must know.

        Raises:
            SlimdeployError: what the worker raised, by the same class.
            DeviceError: the worker died, or gave no answer in time.
        """
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # a dead worker is told of below
            stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            stdin.flush()
        limit_s = self._timeout_s + takes_s
        line = self._answer(limit_s)
        if line is None:
            raise self._failure(f"gave no answer to {do!r} within {limit_s:g} s")
        if not line:
            raise self._failure(f"died with {_ending(self._process.wait())} at {do!r}")
        try:
            answer: dict[str, Any] = dict(json.loads(line))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._failure(f"gave no answer that can be read to {do!r}") from error
        if "error" in answer:
            raise _raised(answer)
        return answer

    def close(self) -> None:
        """End the process: gently first, by force if it does not go."""
        for stream in (self._process.stdin, self._stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()  # a worker ends when its stdin does
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def _answer(self, limit_s: float) -> bytes | None:
        """Return one line, b"" from a dead worker, or None when time is up."""
        ends = time.perf_counter() + limit_s
        while (left_s := ends - time.perf_counter()) > 0:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(left_s, POLL_S))
        return None

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                self._lines.put(line)
        self._lines.put(b"")

    def _failure(self, what: str) -> DeviceError:
        self._process.kill()  # only then is its stderr complete
        self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().decode(errors="replace").splitlines() if line.strip()]
        said = f"; it said: {' | '.join(lines[-SHOWN_LINES:])}" if lines else ""
        return DeviceError(
            f"the worker process of {self.name} {what}{said}",
            do="check that the machine has memory to spare and that the model runs alone, then run it again",
        )


def worker_environment(threads: int) -> dict[str, str]:
    """Return a worker's environment variables: this process's, with the thread counts set and imports made safe.

    Args:
        threads: for every library that reads its thread count there; ultralytics may have set 1 in the parent.
    """
    settings = dict(os.environ) | dict.fromkeys(_THREAD_SETTINGS, str(threads))
    settings["PYTHONSAFEPATH"] = "1"  # a file in the current folder must not pass for a module
    settings["PYTHONIOENCODING"] = "utf-8"
    root = Path(slimdeploy.__file__).resolve().parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        paths = [str(root), *settings.get("PYTHONPATH", "").split(os.pathsep)]
        settings["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return settings


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _raised(answer: Mapping[str, Any]) -> errors.SlimdeployError:
    kind = getattr(errors, answer["error"], DeviceError)
    raised: errors.SlimdeployError = kind(answer["wrong"], wanted=answer["wanted"], do=answer["do"])
    return raised

"""One process on a board, asked line by line: see slimdeploy.board.session, which is its other end."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import tempfile
import threading
import time
from types import TracebackType
from typing import IO, Any

from slimdeploy.board.session import MARK
from slimdeploy.configs import ShipConfig
from slimdeploy.devices import ssh
from slimdeploy.devices.address import Address
from slimdeploy.errors import DeviceError

CLOSE_S = 2.0
POLL_S = 0.2  # Windows cannot interrupt a wait by Ctrl-C, so waits are short
TOO_OLD = 96  # exit code of the start below
# Takes the board's package from stdin into memory and runs it from there: the board's disk is not touched. It is read
# by whatever Python the board has, so it keeps to words that Python 3.4 knew.
_START = (
    "import sys, os\n"
    "if sys.version_info < (3, 8):\n"
    " sys.stderr.write('Python %d.%d' % sys.version_info[:2]); sys.exit({too_old})\n"
    "left = {size}; opened = os.memfd_create('slimdeploy')\n"
    "while left: left -= os.write(opened, sys.stdin.buffer.read(min(left, 65536)))\n"
    "sys.path.insert(0, '/proc/self/fd/%d' % opened)\n"
    "from slimdeploy.board.session import serve\n"
    "serve({root!r}, {silence_s!r})\n"
)


class BoardSession:
    """A board that answers; use it in a `with` block.

    Args:
        address: the board.
        config: time limits, and the Python to use there.
        agent: the zipapp of `slimdeploy.board`, which the board runs.
    """

    def __init__(self, address: Address, config: ShipConfig, agent: bytes) -> None:
        self.address, self._config = address, config
        told = {"size": len(agent), "root": address.root, "silence_s": config.silence_s}
        start = _START.format(**told, too_old=TOO_OLD)
        command = [config.python, "-c", start]
        if address.host:
            command = [*ssh.ssh_command(config), *ssh.login(address), shlex.join(command)]
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise DeviceError(f"cannot start {command[0]}: {error}", do="check that it is installed") from error
        threading.Thread(target=self._read, daemon=True).start()
        self._write(agent)

    def ask(self, do: str, *, timeout_s: float | None = None, **request: Any) -> dict[str, Any]:
        """Return the board's answer to one request.

        Raises:
            DeviceError: the board refused, it gave no answer in time, or the connection broke.
        """
        limit_s = timeout_s if timeout_s is not None else self._config.answer_timeout_s
        self._write(json.dumps({"do": do, **request}).encode() + b"\n")
        line = self._answer(limit_s)
        if line is None:
            raise DeviceError(
                f"{self.address.text} gave no answer to {do!r} within {limit_s:g} s",
                do="check that the board is not stuck, then run the same command again",
            )
        if not line:
            raise self._ended(do)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            wrong = f"{self.address.text}: {answer['wrong']}"
            raise DeviceError(wrong, wanted=answer["wanted"], do=answer["do"])
        return answer

    def close(self) -> None:
        """End the board's process, which frees its lock: gently first, by force if it does not go."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def __enter__(self) -> BoardSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a session that ended is told of when an answer is asked for
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _answer(self, timeout_s: float) -> bytes | None:
        """Return one answer, b"" from a session that ended, or None when time is up."""
        ends = time.perf_counter() + timeout_s
        while (left_s := ends - time.perf_counter()) > 0:
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(left_s, POLL_S))
        return None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                if line.startswith(MARK.encode()):
                    self._lines.put(line[len(MARK) :])
        self._lines.put(b"")

    def _ended(self, what: str) -> DeviceError:
        code = self._process.wait()
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace")
        name, board = self._config.python, self.address.text
        if code == TOO_OLD:
            return DeviceError(
                f"{name} on {board} is {said.strip().splitlines()[-1]}",
                wanted="3.8 or newer",
                do="name one with --python",
            )
        if code == 127 or ("not found" in said and name in said):
            return DeviceError(
                f"{board} has no {name}", wanted="Python 3.8 or newer there", do="install it, or name one with --python"
            )
        return ssh.explain(self.address, code, said, repr(what))

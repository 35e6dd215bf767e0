"""One process on a board, asked line by line: see slimdeploy.board.session, which is its other end."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import subprocess
import threading
import time
from types import TracebackType
from typing import Any

from slimdeploy.board.session import MARK
from slimdeploy.board.text import one_line
from slimdeploy.configs import ShipConfig
from slimdeploy.devices import answers, ssh
from slimdeploy.devices.address import Address
from slimdeploy.devices.streams import Tail, TooLong, marked_lines
from slimdeploy.errors import DeviceError

CLOSE_S = 2.0
ANSWER_LIMIT_BYTES = 16 << 20  # far above what the samples of a measurement take
UNASKED = 8  # answers that may wait; a board gives one for each request
SHOWN = 500  # characters of a board's reason
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
        self._lines: queue.Queue[bytes] = queue.Queue(UNASKED)
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._over, self._broken = threading.Event(), ""
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise DeviceError(f"cannot start {command[0]}: {error}", do="check that it is installed") from error
        assert self._process.stderr is not None
        self._stderr = Tail(self._process.stderr)
        for work in (self._read, self._send):
            threading.Thread(target=work, daemon=True).start()
        self._outgoing.put(agent)

    def ask(self, do: str, *, timeout_s: float | None = None, **request: Any) -> dict[str, Any]:
        """Return the board's answer to one request.

        Raises:
            DeviceError: the board refused, it gave no answer in time or none that can be used, or the connection broke.
        """
        limit_s = timeout_s if timeout_s is not None else self._config.answer_timeout_s
        self._outgoing.put(json.dumps({"do": do, **request}).encode() + b"\n")
        line = self._answer(limit_s)
        if line is None:
            raise DeviceError(
                f"{self.address.text} gave no answer to {do!r} within {limit_s:g} s",
                do="check that the board is not stuck, then run the same command again",
            )
        if self._broken:
            raise self._useless(do, self._broken)
        if not line:
            raise self._ended(do)
        try:
            answer = answers.parse(line, do, request)
        except ValueError as error:
            raise self._useless(do, str(error)) from error
        if "error" in answer:
            wrong, wanted, reason = (answer[key][:SHOWN] for key in ("wrong", "wanted", "do"))
            raise DeviceError(f"{self.address.text}: {wrong}", wanted=wanted, do=reason)
        return answer

    def close(self) -> None:
        """End the board's process, which frees its lock: gently first, by force if it does not go."""
        self._outgoing.put(None)
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> BoardSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self) -> None:
        """Write what is asked, in a thread of its own: a board that does not read must not stop the host."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as stdin:  # an end is told when an answer is asked for
            for data in iter(self._outgoing.get, None):
                left = memoryview(data)
                while left:
                    left = left[stdin.write(left) :]

    def _answer(self, timeout_s: float) -> bytes | None:
        """Return one answer, b"" from a session that ended, or None when time is up."""
        ends = time.perf_counter() + timeout_s
        while (left_s := ends - time.perf_counter()) > 0:
            over = self._over.is_set()  # asked before the queue, which gets nothing more afterwards
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=min(left_s, POLL_S))
            if over:
                return b""
        return None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            try:
                for line in marked_lines(stdout, MARK.encode(), ANSWER_LIMIT_BYTES):
                    self._lines.put_nowait(line)
            except TooLong:
                self._broken = f"it is longer than {ANSWER_LIMIT_BYTES >> 20} MiB"
            except queue.Full:
                self._broken = "more came than was asked for"
            if self._broken:
                self._process.kill()
        self._over.set()

    def _useless(self, do: str, why: str) -> DeviceError:
        return DeviceError(
            f"the answer of {self.address.text} to {do!r} cannot be used: {one_line(why, SHOWN)}",
            wanted="what slimdeploy's own part on the board says",
            do="check what this board is; do not trust it",
        )

    def _ended(self, what: str) -> DeviceError:
        try:
            code = self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:  # it says nothing more, and stays
            self._process.kill()
            code = self._process.wait()
        said = self._stderr.text(CLOSE_S)
        name, board = self._config.python, self.address.text
        if code == TOO_OLD:
            return DeviceError(
                f"{name} on {board} is {one_line(said.strip().split(chr(10))[-1], 80) or 'too old'}",
                wanted="3.8 or newer",
                do="name one with --python",
            )
        if code == 127 or ("not found" in said and name in said):
            return DeviceError(
                f"{board} has no {name}", wanted="Python 3.8 or newer there", do="install it, or name one with --python"
            )
        return ssh.explain(self.address, code, said, repr(what))

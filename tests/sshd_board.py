"""A board that is reached as a user reaches one: a real sshd on this machine, with keys made for the test.

What lies behind it is a simulated board: recorded files in place of a device tree, and ONNX Runtime or a stand-in for
the engine. Nothing measured there is a Jetson's figure.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from simulated_board import write_board

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
BOARD_PROGRAMS = ("rsync", "ssh-keygen")
DESK_PROGRAMS = ("rsync", "ssh-keygen")


class Board:
    """One sshd and the simulated board behind it.

    Args:
        folder: where everything lies.
        programs: what the board has in PATH beside its Python.
        environment: the board's environment variables.
        python: what its `python3` runs; "" for none.
        path: further folders of programs.
    """

    def __init__(
        self, folder: Path, *, environment=None, programs=BOARD_PROGRAMS, python=sys.executable, path=""
    ) -> None:
        self.folder, self.root = folder, folder / "flight"
        self.port = free_port()
        self.host_key, self.user_key = (make_key(folder / name) for name in ("host_key", "user_key"))
        own = folder / "board_bin"
        fill_path(own, programs)
        if python:
            write_script(own / "python3", f'exec {python} "$@"')
        write_board(folder / "system")
        (folder / "home").mkdir()  # of its own, so that no login script of this machine's user takes part
        known = {
            "PATH": f"{own}:{path}" if path else str(own),
            "HOME": str(folder / "home"),
            "SLIMDEPLOY_BOARD_ROOT": str(folder / "system"),
            **(environment or {}),
        }
        self._write_config(known)
        self.process = self._start()

    @property
    def address(self) -> str:
        """The board's address, by the name that the user's ssh config gives it."""
        return f"ssh://drone{self.root}"

    @property
    def current(self) -> Path:
        """The bundle that flies, by the links alone."""
        return self.root / "current" / "bundle"

    def model(self) -> bytes:
        """What the model file that flies holds."""
        return (self.current / "model.fp32.onnx").read_bytes()

    def ssh_config(self) -> str:
        """The user's ssh config, with the board in it as `drone`."""
        return (
            f"Host drone\n HostName 127.0.0.1\n Port {self.port}\n User {getpass.getuser()}\n"
            f" IdentityFile {self.user_key}\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {self.folder / 'known_hosts'}\n GlobalKnownHostsFile none\n"
        )

    def trust(self, key: Path) -> None:
        """Let the user know a host key of the board."""
        public = key.with_suffix(".pub").read_text(encoding="utf-8")
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}", encoding="utf-8")

    def stop(self) -> None:
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def _write_config(self, environment: dict[str, str]) -> None:
        variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
        shutil.copy(self.user_key.with_suffix(".pub"), self.folder / "authorized_keys")
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}\nUsePAM no\nPasswordAuthentication no\n"
            f"Subsystem sftp internal-sftp\nSetEnv {variables}\n",
            encoding="utf-8",
        )
        self.trust(self.host_key)

    def _start(self) -> subprocess.Popen[bytes]:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd asks for it
        log = (self.folder / "sshd.log").open("wb")
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        for _ in range(100):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
            time.sleep(0.05)
        raise AssertionError((self.folder / "sshd.log").read_text(encoding="utf-8"))


def descendants(pid: int) -> list[int]:
    """Return all processes below one."""
    below = [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == pid]
    return [*below, *(one for child in below for one in descendants(child))]


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def kill(pids: list[int]) -> None:
    """Kill processes; those that are gone already are as wanted."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def when(condition, act) -> threading.Thread:
    """Do something as soon as a condition holds, beside what the test does."""

    def watch():
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            if condition():
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


def write_script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)


def fill_path(folder: Path, programs) -> None:
    folder.mkdir()
    for name in programs:
        (folder / name).symlink_to(shutil.which(name))

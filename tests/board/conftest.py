"""A board that is reached as a user reaches one: a real sshd on this machine, with keys made for the test.

What lies behind it is a simulated board: recorded files in place of a device tree, and ONNX Runtime or a stand-in for
the engine. Nothing measured there is a Jetson's figure.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from simulated_board import write_board
from small_bundle import write_small_bundle
from stand_in_agent import stand_in_agent

from slimdeploy.cli import main

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
BOARD_PROGRAMS = ("rsync", "ssh-keygen")
DESK_PROGRAMS = ("rsync", "ssh-keygen")


def pytest_collection_modifyitems(items):
    missing = [name for name in ("ssh", "sftp", "rsync", "ssh-keygen") if shutil.which(name) is None]
    if missing or not Path(SSHD).exists():
        here = Path(__file__).parent
        for item in items:
            if item.path.is_relative_to(here):
                item.add_marker(pytest.mark.skip(reason=f"no OpenSSH server or client here, or no rsync: {missing}"))


class Board:
    """One sshd and the simulated board behind it.

    Args:
        folder: where everything lies.
        programs: what the board has in PATH beside its Python.
        environment: the board's environment variables.
        python: what its `python3` runs; "" for none.
    """

    def __init__(self, folder: Path, *, environment=None, programs=BOARD_PROGRAMS, python=sys.executable) -> None:
        self.folder, self.root = folder, folder / "flight"
        self.port = free_port()
        self.host_key, self.user_key = (make_key(folder / name) for name in ("host_key", "user_key"))
        path = folder / "board_bin"
        fill_path(path, programs)
        if python:
            write_script(path / "python3", f'exec {python} "$@"')
        write_board(folder / "system")
        (folder / "home").mkdir()  # of its own, so that no login script of this machine's user takes part
        known = {
            "PATH": str(path),
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

    def children(self) -> list[int]:
        """Processes that serve connections now."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(one) for one in found.stdout.split()]

    def stop(self) -> None:
        for pid in [*self.children(), self.process.pid]:
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


@pytest.fixture
def make_board(tmp_path, monkeypatch):
    """Start a board; the desk's PATH then has an ssh with a config that knows it as `drone`."""
    started = []

    def make(name: str = "board", desk_programs=DESK_PROGRAMS, **asked) -> Board:
        (tmp_path / name).mkdir()
        board = Board(tmp_path / name, **asked)
        started.append(board)
        desk = tmp_path / name / "desk_bin"
        fill_path(desk, desk_programs)
        (tmp_path / name / "ssh_config").write_text(board.ssh_config(), encoding="utf-8")
        write_script(desk / "ssh", f'exec {shutil.which("ssh")} -F {tmp_path / name / "ssh_config"} "$@"')
        (desk / "sftp").symlink_to(shutil.which("sftp"))
        monkeypatch.setenv("PATH", str(desk))
        return board

    path = os.environ["PATH"]
    yield make
    monkeypatch.setenv("PATH", path)
    for board in started:
        board.stop()


@pytest.fixture
def make_bundle(tmp_path):
    """Make a bundle for the simulated board, whose model holds the given bytes."""

    def make(model: bytes = b"new", *, name: str = "", target: str = "orin-nano-8gb") -> Path:
        out = tmp_path / (name or f"bundle-{model[:12].decode()}-{target}")
        return write_small_bundle(out, model=model, agent=stand_in_agent(), target=target)

    return make


@pytest.fixture
def slimdeploy(monkeypatch, capsys):
    """Run the command line as a user would; gives (exit code, stdout, stderr)."""

    def run(*argv):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["slimdeploy", *map(str, argv)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run

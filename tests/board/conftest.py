"""What the tests of shipping share: boards behind a real sshd, bundles, and the command line."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from small_bundle import write_small_bundle
from sshd_board import DESK_PROGRAMS, SSHD, Board, fill_path, write_script
from stand_in_agent import stand_in_agent

from slimdeploy.cli import main


def pytest_collection_modifyitems(items):
    missing = [name for name in ("ssh", "sftp", "rsync", "ssh-keygen") if shutil.which(name) is None]
    if missing or not Path(SSHD).exists():
        here = Path(__file__).parent
        for item in items:
            if item.path.is_relative_to(here):
                item.add_marker(pytest.mark.skip(reason=f"no OpenSSH server or client here, or no rsync: {missing}"))


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

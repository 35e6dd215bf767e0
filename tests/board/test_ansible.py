"""The Ansible role that a bundle brings, played by ansible-core through a real sshd."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile

import pytest
from small_bundle import put

from slimdeploy.board import release

pytest.importorskip("ansible", reason="ansible-core is not installed")
pytestmark = pytest.mark.slow  # two plays, each half a minute on a busy machine

PLAY = "- hosts: all\n  gather_facts: false\n  roles: [slimdeploy]\n"


@pytest.fixture
def play(make_board, tmp_path):
    """Play the role of a bundle on a board; gives (exit code, what was said)."""
    tools = os.environ["PATH"]
    board = make_board(path=tools)
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")

    def run(bundle, *more):
        settings = {
            **os.environ,
            "PATH": f"{board.folder / 'desk_bin'}:{tools}",
            "ANSIBLE_ROLES_PATH": str(bundle / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
            "LC_ALL": "C.UTF-8",
        }
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "drone,", str(tmp_path / "play.yml")]
        variables = [f"slimdeploy_root={board.root}", f"ansible_python_interpreter={sys.executable}", *more]
        given = [part for one in variables for part in ("-e", one)]
        ended = subprocess.run([*command, *given], capture_output=True, text=True, env=settings, timeout=300)
        return ended.returncode, ended.stdout + ended.stderr

    return board, run


def test_the_role_ships_the_bundle_it_lies_in_and_does_nothing_the_second_time(play, make_bundle):
    board, run = play
    bundle = make_bundle(b"new")
    code, said = run(bundle)
    assert code == 0, said
    assert board.model() == b"new"
    code, said = run(bundle)
    assert (code, "changed=0" in said) == (0, True), said
    assert len(release.activations(board.root)) == 1


def test_a_board_that_refuses_the_bundle_fails_the_play_and_keeps_what_flew(play, make_bundle):
    board, run = play
    assert run(make_bundle(b"old"))[0] == 0
    (board.root / "allowed_signers").write_text("", encoding="utf-8")
    code, said = run(make_bundle(b"new"))
    assert (code, "the bundle is not signed" in said) == (2, True), said
    assert board.model() == b"old"


def test_the_agent_of_an_unsigned_bundle_is_not_run_by_the_role(play, make_bundle, tmp_path):
    board, run = play
    board.root.mkdir()
    (board.root / "allowed_signers").write_text("pilot@example.com ssh-ed25519 AAAA", encoding="utf-8")
    bundle, packed = make_bundle(b"evil"), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__main__.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    put(bundle, "agent.pyz", packed.getvalue())
    code, said = run(bundle)
    assert (code, "the bundle is not signed" in said) == (2, True), said
    assert not (tmp_path / "ran").exists()
    assert not (board.root / "current").exists()

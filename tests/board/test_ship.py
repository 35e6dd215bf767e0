"""What a user who ships to a board sees, through a real sshd, when all is well."""

from __future__ import annotations

import getpass
import json

import pytest


def test_a_shipped_bundle_flies(make_board, make_bundle, slimdeploy):
    board = make_board()
    code, stdout, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address)
    assert code == 0, stderr
    assert "flies on ssh://drone" in stdout
    assert "simulated board" in stdout
    assert board.model() == b"new"
    assert (board.root / "current" / "engine" / "model.engine").exists()


def test_an_archive_is_shipped_like_its_folder(make_board, make_bundle, slimdeploy, tmp_path):
    pytest.importorskip("zstandard")
    board, bundle = make_board(), make_bundle(b"new")
    assert slimdeploy("bundle", "pack", bundle, "--out", tmp_path / "b.tar.zst")[0] == 0
    code, _, stderr = slimdeploy("ship", tmp_path / "b.tar.zst", "--to", board.address)
    assert code == 0, stderr
    assert board.model() == b"new"


def test_the_release_before_is_one_command_away(make_board, make_bundle, slimdeploy):
    board = make_board()
    for model in (b"old", b"new"):
        assert slimdeploy("ship", make_bundle(model), "--to", board.address)[0] == 0
    code, stdout, stderr = slimdeploy("ship", "--rollback", "--to", board.address)
    assert code == 0, stderr
    assert "rolled back" in stdout
    assert board.model() == b"old"


def test_status_says_what_flies_and_changes_nothing(make_board, make_bundle, slimdeploy):
    board = make_board()
    code, stdout, stderr = slimdeploy("ship", "--status", "--to", board.address)
    assert (code, "no release yet" in stdout) == (0, True), stderr
    assert not board.root.exists()
    slimdeploy("ship", make_bundle(b"new"), "--to", board.address)
    told = json.loads(slimdeploy("ship", "--status", "--to", board.address, "--json")[1])
    assert [one["current"] for one in told["releases"]] == [True]
    assert told["simulated"] is True


def test_prune_keeps_what_flies(make_board, make_bundle, slimdeploy):
    board = make_board()
    for model in (b"old", b"new"):
        slimdeploy("ship", make_bundle(model), "--to", board.address)
    code, stdout, _ = slimdeploy("ship", "--prune", "--keep", "0", "--to", board.address, "--json")
    assert (code, len(json.loads(stdout)["removed"])) == (0, 1)
    assert board.model() == b"new"


def test_what_is_there_already_is_not_sent_again(make_board, make_bundle, slimdeploy):
    board, bundle = make_board(), make_bundle(b"new")
    slimdeploy("ship", bundle, "--to", board.address)
    again = json.loads(slimdeploy("ship", bundle, "--to", board.address, "--json")[1])
    assert again["sent"] == {"with": None, "bytes": 0}


def test_without_a_path_the_folder_lies_in_the_users_home(make_board, make_bundle, slimdeploy):
    board = make_board()
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", "ssh://drone")
    assert code == 0, stderr
    assert (board.folder / "home" / "slimdeploy" / "current" / "bundle" / "labels.txt").is_file()
    assert not board.root.exists()


def test_user_and_port_can_stand_in_the_address(make_board, make_bundle, slimdeploy):
    board = make_board()
    config = board.folder / "ssh_config"
    config.write_text(config.read_text(encoding="utf-8").replace("Host drone", "Host 127.0.0.1"), encoding="utf-8")
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{board.port}{board.root}"
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", address)
    assert code == 0, stderr


@pytest.mark.parametrize("side", ["board", "desk"])
def test_without_rsync_on_one_side_sftp_sends(make_board, make_bundle, slimdeploy, side):
    board = make_board(**{"programs" if side == "board" else "desk_programs": ("ssh-keygen",)})
    code, stdout, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--json")
    assert code == 0, stderr
    assert json.loads(stdout)["sent"]["with"] == "sftp"
    assert board.model() == b"new"


def test_this_machine_can_be_the_board(make_bundle, slimdeploy, tmp_path):
    code, _, stderr = slimdeploy("ship", make_bundle(b"new", target="cpu"), "--to", f"local:{tmp_path / 'flight'}")
    assert code == 0, stderr
    assert (tmp_path / "flight" / "current" / "bundle" / "labels.txt").is_file()

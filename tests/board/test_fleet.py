"""Many boards at once, through a real sshd: a table of what flies where, and exit code 4 when one failed."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def fleet(make_board, tmp_path):
    """A fleet of three boards behind one sshd, each with its own folder."""
    board = make_board()
    roots = {name: board.folder / name for name in ("alpha", "bravo", "charlie")}
    lines = [f'[[board]]\nname = "{name}"\naddress = "ssh://drone{root}"\n' for name, root in roots.items()]
    (tmp_path / "fleet.toml").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "fleet.toml", roots


def test_a_bundle_is_shipped_to_every_board_and_rolled_back_again(fleet, make_bundle, slimdeploy):
    path, roots = fleet
    for model in (b"old", b"new"):
        code, stdout, stderr = slimdeploy("ship", make_bundle(model), "--to", path)
        assert code == 0, stderr
    assert [line.split()[0] for line in stdout.splitlines()[1:]] == list(roots)
    assert slimdeploy("ship", "--rollback", "--to", path)[0] == 0
    flying = {(root / "current" / "bundle" / "model.fp32.onnx").read_bytes() for root in roots.values()}
    assert flying == {b"old"}
    told = json.loads(slimdeploy("ship", "--status", "--to", path, "--json")[1])
    assert {board["name"] for board in told["boards"]} == set(roots)


def test_a_board_that_fails_is_named_with_the_reason_and_stops_the_rest(fleet, make_bundle, slimdeploy):
    path, roots = fleet
    roots["bravo"].mkdir()
    (roots["bravo"] / "allowed_signers").write_text("", encoding="utf-8")
    code, stdout, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", path, "--parallel", "1")
    assert code == 4
    assert "1 of 3 boards failed, 1 were not begun" in stderr
    assert "bravo: ssh://drone" in stdout
    assert "the bundle is not signed" in stdout
    assert not roots["charlie"].exists()

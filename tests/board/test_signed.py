"""A board with a list of allowed signers takes what one of them signed, and nothing else."""

from __future__ import annotations

import pytest
from small_bundle import put
from sshd_board import make_key

from slimdeploy.board.whole import SIGNATURE, sha256_file


@pytest.fixture
def board(make_board):
    """A board that asks for a signature, with the key that it allows as `signer`."""
    board = make_board()
    board.root.mkdir()
    key = make_key(board.folder / "signer")
    public = key.with_suffix(".pub").read_text(encoding="utf-8")
    (board.root / "allowed_signers").write_text(f"pilot@example.com {public}", encoding="utf-8")
    return board


def sign(slimdeploy, bundle, key):
    signed = bundle.with_name(f"{bundle.name}-signed")
    code, _, stderr = slimdeploy("bundle", "sign", bundle, "--key", key, "--out", signed)
    assert code == 0, stderr
    return signed


def test_a_bundle_of_an_allowed_signer_is_taken(board, make_bundle, slimdeploy):
    signed = sign(slimdeploy, make_bundle(b"new"), board.folder / "signer")
    code, stdout, stderr = slimdeploy("ship", signed, "--to", board.address, "--json")
    assert code == 0, stderr
    assert '"signed_by": "pilot@example.com"' in stdout


def refused(board, slimdeploy, bundle) -> str:
    """Ship a bundle that must be refused, and return what the user sees."""
    code, _, stderr = slimdeploy("ship", bundle, "--to", board.address)
    assert (code, (board.root / "current").exists(), list(board.root.glob("staging/*"))) == (4, False, []), stderr
    return stderr


def test_an_unsigned_bundle_is_refused_before_anything_is_sent(board, make_bundle, slimdeploy):
    assert "the bundle is not signed" in refused(board, slimdeploy, make_bundle(b"new"))
    assert not (board.root / "staging").exists()


def test_a_bundle_of_somebody_else_is_refused(board, make_bundle, slimdeploy):
    signed = sign(slimdeploy, make_bundle(b"new"), make_key(board.folder / "stranger"))
    assert "signature does not hold" in refused(board, slimdeploy, signed)


def test_a_bundle_that_was_altered_after_it_was_signed_is_refused(board, make_bundle, slimdeploy):
    signed = sign(slimdeploy, make_bundle(b"new"), board.folder / "signer")
    put(signed, "model.fp32.onnx", b"evil")  # with its hash in the manifest, as who alters a bundle would
    assert "signature does not hold" in refused(board, slimdeploy, signed)


def test_a_bundle_with_a_file_that_was_added_after_it_was_signed_is_refused(board, make_bundle, slimdeploy):
    signed = sign(slimdeploy, make_bundle(b"new"), board.folder / "signer")
    put(signed, "extra.py", b"print()")
    assert "signature does not hold" in refused(board, slimdeploy, signed)


def test_the_signature_of_another_bundle_is_refused(board, make_bundle, slimdeploy):
    signed = sign(slimdeploy, make_bundle(b"new"), board.folder / "signer")
    other = make_bundle(b"other")
    (other / SIGNATURE).write_bytes((signed / SIGNATURE).read_bytes())
    assert "signature does not hold" in refused(board, slimdeploy, other)


def test_a_board_that_asks_for_signatures_now_does_not_go_back_to_an_unsigned_release(
    make_board, make_bundle, slimdeploy
):
    board = make_board()
    assert slimdeploy("ship", make_bundle(b"old"), "--to", board.address)[0] == 0
    key = make_key(board.folder / "signer")
    public = key.with_suffix(".pub").read_text(encoding="utf-8")
    (board.root / "allowed_signers").write_text(f"pilot@example.com {public}", encoding="utf-8")
    assert slimdeploy("ship", sign(slimdeploy, make_bundle(b"new"), key), "--to", board.address)[0] == 0
    code, _, stderr = slimdeploy("ship", "--rollback", "--to", board.address)
    assert (code, board.model()) == (4, b"new")
    assert "may not run: the bundle is not signed" in stderr


def test_what_was_planted_in_staging_before_a_ship_is_not_in_the_release(board, make_bundle, slimdeploy, tmp_path):
    signed = sign(slimdeploy, make_bundle(b"new"), board.folder / "signer")
    (tmp_path / "outside").mkdir()
    staging = board.root / "staging" / sha256_file(signed / "manifest.json")
    (staging / "engine").mkdir(parents=True)
    (staging / "engine" / "planted.engine").write_text("evil", encoding="utf-8")
    (staging / "bundle").symlink_to(tmp_path / "outside")
    assert slimdeploy("ship", signed, "--to", board.address)[0] == 0
    assert [path.name for path in (board.root / "current" / "engine").iterdir()] == ["model.engine"]
    assert list((tmp_path / "outside").iterdir()) == []
    assert {(board.root / name).stat().st_mode & 0o777 for name in (".", "releases", "activations")} == {0o700}


def test_a_list_of_signers_that_leads_nowhere_lets_no_unsigned_bundle_in(make_board, make_bundle, slimdeploy):
    board = make_board()
    board.root.mkdir()
    (board.root / "allowed_signers").symlink_to(board.root / "nowhere")
    assert "the bundle is not signed" in refused(board, slimdeploy, make_bundle(b"new"))

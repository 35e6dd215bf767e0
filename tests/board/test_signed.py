"""A board with a list of allowed signers takes what one of them signed, and nothing else."""

from __future__ import annotations

import pytest
from small_bundle import put
from sshd_board import make_key

from slimdeploy.board.whole import SIGNATURE


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

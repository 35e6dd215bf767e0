"""A signature holds for one bundle and one list of keys, and for nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from slimdeploy.board.whole import MANIFEST, SIGNATURE
from slimdeploy.bundle.pack import verify
from slimdeploy.bundle.sign import sign, signer
from slimdeploy.errors import ArtifactError, OutputExists, UsageError

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="OpenSSH is not installed")


def make_key(path: Path) -> Path:
    """Make a key pair for the test and return the private key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


def allow(path: Path, key: Path, who: str = "pilot@example.com") -> Path:
    """Write an allowed-signers file for one key."""
    path.write_text(f"{who} {key.with_suffix('.pub').read_text(encoding='utf-8')}", encoding="utf-8")
    return path


@pytest.fixture
def key(tmp_path) -> Path:
    return make_key(tmp_path / "key")


@pytest.fixture
def signers(tmp_path, key) -> Path:
    return allow(tmp_path / "signers", key)


@pytest.fixture
def signed(tmp_path, small_bundle, key) -> Path:
    return sign(small_bundle, key, tmp_path / "signed")


def test_a_signed_bundle_is_whole_and_says_who_signed_it(signed, signers):
    verify(signed)
    assert signer(signed, signers) == "pilot@example.com"


def test_signing_leaves_the_bundle_that_it_read_alone(small_bundle, signed):
    assert not (small_bundle / SIGNATURE).exists()


def test_signing_an_archive_gives_the_same_bytes_each_time(small_bundle, key, tmp_path):
    pytest.importorskip("zstandard")
    packed = [sign(small_bundle, key, tmp_path / f"{n}.tar.zst").read_bytes() for n in (1, 2)]
    assert packed[0] == packed[1]


def test_an_unsigned_bundle_is_refused(small_bundle, signers):
    with pytest.raises(ArtifactError, match="is not signed"):
        signer(small_bundle, signers)


def test_the_signature_of_a_key_that_is_not_allowed_is_refused(signed, tmp_path):
    others = allow(tmp_path / "others", make_key(tmp_path / "other"))
    with pytest.raises(ArtifactError, match="signature does not hold"):
        signer(signed, others)


def test_a_manifest_altered_after_signing_is_refused(signed, signers):
    manifest = json.loads((signed / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"]["labels.txt"]["sha256"] = "0" * 64
    (signed / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="signature does not hold"):
        signer(signed, signers)


def test_a_signature_made_for_another_purpose_is_refused(signed, key, signers):
    (signed / SIGNATURE).unlink()
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", "git", str(signed / MANIFEST)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ArtifactError, match="signature does not hold"):
        signer(signed, signers)


def test_a_damaged_signature_is_refused(signed, signers):
    (signed / SIGNATURE).write_text("no signature", encoding="utf-8")
    with pytest.raises(ArtifactError, match="signature does not hold"):
        signer(signed, signers)


def test_without_a_key_nothing_is_written(small_bundle, tmp_path):
    with pytest.raises(UsageError, match="no key at"):
        sign(small_bundle, tmp_path / "nokey", tmp_path / "signed")
    assert not (tmp_path / "signed").exists()


def test_a_file_that_is_no_key_is_told(small_bundle, tmp_path):
    (tmp_path / "bad").write_text("no key", encoding="utf-8")
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(UsageError, match="cannot sign with"):
        sign(small_bundle, tmp_path / "bad", tmp_path / "signed")


def test_an_output_that_exists_is_left_alone(small_bundle, key, tmp_path):
    (tmp_path / "signed").mkdir()
    with pytest.raises(OutputExists):
        sign(small_bundle, key, tmp_path / "signed")

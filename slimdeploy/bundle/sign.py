"""Sign a bundle with an OpenSSH key, which users have, so that boards with OpenSSH can check it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from slimdeploy.board.errors import AgentError
from slimdeploy.board.whole import MANIFEST, NAMESPACE, SIGNATURE, check_signature
from slimdeploy.bundle.archive import opened, write_bundle
from slimdeploy.errors import ArtifactError, StageFailed, UsageError
from slimdeploy.outputs import refuse_existing, scratch_folder

SIGN_S = 120.0  # a key on a token waits for a touch


def sign(bundle: Path, key: Path, out: Path) -> Path:
    """Write a bundle with the signature of its manifest, which holds the hashes of all other files.

    Args:
        bundle: a folder or a `.tar.zst`; it is verified first. A signature that it has is replaced.
        key: the private key, or the public one where an agent holds the private one.
        out: the folder or `.tar.zst` to make.

    Raises:
        ArtifactError: the bundle is not whole.
        OutputExists: `out` is there already.
        UsageError: there is no key, or ssh-keygen cannot sign with it.
        StageFailed: ssh-keygen is not installed.
    """
    refuse_existing(out)
    if not key.is_file():
        raise UsageError(f"no key at {key}", wanted="an OpenSSH key", do="make one: ssh-keygen -t ed25519 -f KEY")
    with opened(bundle) as given, scratch_folder() as temporary:
        copy = write_bundle(given, Path(temporary) / "bundle")
        (copy / SIGNATURE).unlink(missing_ok=True)
        _ssh_keygen(copy / MANIFEST, key)
        return write_bundle(copy, out)


def _ssh_keygen(path: Path, key: Path) -> None:
    command = ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(path)]
    if shutil.which(command[0]) is None:
        raise StageFailed("ssh-keygen is not installed", wanted="OpenSSH 8.2 or newer", do="install openssh-client")
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SIGN_S)
    except subprocess.TimeoutExpired as error:
        raise StageFailed(f"ssh-keygen did not sign within {SIGN_S:g} s", do="add the key to your agent") from error
    if ended.returncode != 0:
        said = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"cannot sign with {key}: {said}", wanted="an OpenSSH key that can be read")


def signer(folder: Path, allowed_signers: Path) -> str:
    """Return who signed a bundle, one of the allowed signers.

    Args:
        folder: the bundle's folder.
        allowed_signers: in the form of ssh-keygen(1), ALLOWED SIGNERS.

    Raises:
        ArtifactError: it is not signed, not by one of them, or was altered since.
        UsageError: there is no such file of signers.
    """
    if not allowed_signers.is_file():
        raise UsageError(
            f"no allowed signers at {allowed_signers}", wanted="lines such as: you@example.com ssh-ed25519 AAAA..."
        )
    try:
        return check_signature(folder, allowed_signers)
    except AgentError as error:
        raise ArtifactError(error.wrong, wanted=error.wanted, do=error.do) from error

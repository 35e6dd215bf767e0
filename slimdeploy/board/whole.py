"""Whether a bundle's folder is whole: what its manifest names and nothing else, every hash right, signed if asked.

It runs on the board and on the desk: Python 3.8 and the standard library. A folder that came over a wire is not
trusted: names may lead outside, files may be links, and there may be more of them than the manifest tells.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any, Iterator

from slimdeploy.board.errors import ArtifactError, DeviceError

SCHEMA = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"  # the name that ssh-keygen -Y sign gives it
NAMESPACE = "slimdeploy-bundle"  # a signature made for another purpose does not count
MANIFEST_LIMIT_BYTES = 4 << 20
VERIFY_S = 30.0  # for ssh-keygen
# Parts of a name begin with a letter or a digit, so that none is "..", hidden, or taken for an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest, after checking its schema and the names of its files.

    Raises:
        ArtifactError: there is none, it is damaged, of a newer schema, or names a file outside the bundle.
    """
    try:
        with (folder / MANIFEST).open("rb") as stream:
            raw = stream.read(MANIFEST_LIMIT_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{folder} is no bundle: it has no {MANIFEST}", wanted="a bundle's folder") from error
    return parse_manifest(raw)


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """Return what the bytes of a manifest hold; see `read_manifest`."""
    if len(raw) > MANIFEST_LIMIT_BYTES:
        raise ArtifactError(f"{MANIFEST} is larger than {MANIFEST_LIMIT_BYTES >> 20} MiB", wanted="a bundle's manifest")
    try:
        manifest = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{MANIFEST} is damaged: {error}", do="copy the bundle again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("schema"), int):
        raise ArtifactError(f"{MANIFEST} names no schema", wanted="a bundle's manifest")
    if manifest["schema"] > SCHEMA:
        raise ArtifactError(
            f"{MANIFEST} has schema {manifest['schema']}", wanted=f"schema {SCHEMA} or older", do="upgrade slimdeploy"
        )
    _check_table(manifest.get("files"))
    return manifest


def _check_table(files: Any) -> None:
    if not isinstance(files, dict) or not files:
        raise ArtifactError(f"{MANIFEST} names no files", wanted="a bundle's manifest")
    for name, known in files.items():
        if not NAME.match(name) or name in (MANIFEST, SIGNATURE):
            raise ArtifactError(f"{MANIFEST} names the file {name!r}", wanted="names inside the bundle's folder")
        size, sha256 = (known.get("size_bytes"), known.get("sha256")) if isinstance(known, dict) else (None, None)
        if not isinstance(size, int) or size < 0 or not isinstance(sha256, str):
            raise ArtifactError(f"{MANIFEST} has no size and hash for {name}", wanted="both for every file")


def bundle_hash(folder: Path) -> str:
    """Return what a bundle is called: the SHA-256 of its manifest, which holds the hashes of all other files."""
    return sha256_file(folder / MANIFEST)


def size_bytes(manifest: dict[str, Any]) -> int:
    """Return how many bytes a bundle's files take, the manifest left out."""
    return sum(int(known["size_bytes"]) for known in manifest["files"].values())


def check_files(folder: Path, manifest: dict[str, Any], ignored: tuple[str, ...] = (MANIFEST, SIGNATURE)) -> None:
    """Compare a folder with its manifest.

    Args:
        folder: the bundle.
        manifest: what it must hold.
        ignored: files beside those that the manifest names; they must be ordinary files, too.

    Raises:
        ArtifactError: a file is missing, altered, a link, or not part of the bundle; the message names it.
    """
    present = dict(_walk(folder, ""))
    for name, problem in sorted(present.items()):
        if problem:
            raise _differs(f"holds {name}, which is no ordinary file")
        if name not in manifest["files"] and name not in ignored:
            raise _differs(f"holds {name}, which is not part of it")
    for name, known in manifest["files"].items():
        if name not in present:
            raise _differs(f"lacks {name}")
        path = folder / name
        if path.stat().st_size != known["size_bytes"] or sha256_file(path) != known["sha256"]:
            raise _differs(f"holds an altered {name}")


def altered_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the files of a bundle that are there and whole in size, but not what their hash says."""
    found = []
    for name, known in manifest["files"].items():
        path = folder / name
        if path.is_file() and path.stat().st_size >= known["size_bytes"] and sha256_file(path) != known["sha256"]:
            found.append(name)
    return found


def _walk(folder: Path, below: str) -> Iterator[tuple[str, bool]]:
    """Give every entry that is no folder, and whether it is anything but an ordinary file; follow no link."""
    for entry in os.scandir(str(folder)):
        name = f"{below}{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            inside = list(_walk(Path(entry.path), f"{name}/"))
            yield from inside or [(name, True)]  # an empty folder is part of no bundle
        else:
            yield name, not stat.S_ISREG(mode)


def _differs(what: str) -> ArtifactError:
    return ArtifactError(f"the bundle {what}", wanted="the bundle as it was exported", do="copy it again")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check_signature(folder: Path, allowed_signers: Path) -> str:
    """Return who signed a bundle, one of the allowed signers.

    Args:
        folder: the bundle; the signature is that of its manifest.
        allowed_signers: in the form of ssh-keygen(1), ALLOWED SIGNERS.

    Raises:
        ArtifactError: there is no signature, it is another file's, or its key is not allowed.
        DeviceError: ssh-keygen is missing or hangs.
    """
    if not (folder / SIGNATURE).is_file():
        raise ArtifactError(
            "the bundle is not signed",
            wanted=f"a signature of one of those in {allowed_signers}",
            do="sign it with 'slimdeploy bundle sign'",
        )
    given = ["-s", str(folder / SIGNATURE), "-f", str(allowed_signers), "-n", NAMESPACE]
    found = _ssh_keygen(["-Y", "find-principals", *given[:4]], b"")
    principals = found.stdout.decode(errors="replace").split("\n")[0].strip() if found.returncode == 0 else ""
    if not principals:
        raise _wrong_signature(found.stderr, f"a key in {allowed_signers}")
    one = principals.split(",")[0]
    checked = _ssh_keygen(["-Y", "verify", *given, "-I", one], (folder / MANIFEST).read_bytes())
    if checked.returncode != 0:
        raise _wrong_signature(checked.stderr or checked.stdout, "the bundle as it was signed")
    return one


def _wrong_signature(said: bytes, wanted: str) -> ArtifactError:
    lines = said.decode(errors="replace").strip().splitlines() or ["no reason given"]
    return ArtifactError(
        f"the bundle's signature does not hold: {lines[-1]}", wanted=wanted, do="sign it with such a key"
    )


def _ssh_keygen(arguments: list[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=given, capture_output=True, timeout=VERIFY_S)
    except FileNotFoundError as error:
        raise DeviceError("ssh-keygen is not installed", wanted="OpenSSH 8.2 or newer, for signatures") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"ssh-keygen gave no answer within {VERIFY_S:g} s") from error

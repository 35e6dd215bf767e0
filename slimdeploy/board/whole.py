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
from pathlib import Path
from typing import Any, Iterable, Iterator

from slimdeploy.board import receive
from slimdeploy.board.errors import ArtifactError, DeviceError
from slimdeploy.board.receive import MANIFEST, NAMESPACE, SIGNATURE

__all__ = ["MANIFEST", "NAMESPACE", "SIGNATURE"]  # names that others take from here

SCHEMA = 1
MANIFEST_LIMIT_BYTES = 4 << 20
NAME_LIMIT = 200  # bytes; file systems take 255 for each part
# Parts of a name begin with a letter or a digit, so that none is "..", hidden, or taken for an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*\Z")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest, after checking its schema and the names of its files.

    Raises:
        ArtifactError: there is none, it is damaged, of a newer schema, or names a file outside the bundle.
    """
    return parse_manifest(read_raw(folder))


def read_raw(folder: Path) -> bytes:
    """Return the bytes of a bundle's manifest.

    Raises:
        ArtifactError: there is none that is an ordinary file.
    """
    try:
        return receive.read_regular(folder / MANIFEST, follow=True)
    except OSError as error:
        raise ArtifactError(f"{folder} is no bundle: it has no {MANIFEST}", wanted="a bundle's folder") from error


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
    if wrong := unsafe_name(files):
        raise ArtifactError(f"{MANIFEST} names the file {wrong}", wanted="names inside the bundle's folder")
    for name, known in files.items():
        if name in (MANIFEST, SIGNATURE):
            raise ArtifactError(
                f"{MANIFEST} names the file {name}", wanted="names inside the bundle's folder, and of other files"
            )
        size, sha256 = (known.get("size_bytes"), known.get("sha256")) if isinstance(known, dict) else (None, None)
        if not is_size(size) or not isinstance(sha256, str):
            raise ArtifactError(f"{MANIFEST} has no size and hash for {name}", wanted="both")


def unsafe_name(names: Iterable[Any]) -> str | None:
    """Return the first name, as shown, that must not be written below a folder, or None where all may be.

    A name must lead nowhere else, be no option and not hidden, and none may be the folder of another.
    """
    known = set()
    for name in names:
        if not isinstance(name, str) or len(name) > NAME_LIMIT or not NAME.match(name):
            return repr(name)[:NAME_LIMIT]
        known.add(name)
    for name in sorted(known):
        parts = name.split("/")
        if any("/".join(parts[:deep]) in known for deep in range(1, len(parts))):
            return repr(name)
    return None


def is_size(value: Any) -> bool:
    """Return whether a value is a number of bytes that a disk may hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def bundle_hash(folder: Path) -> str:
    """Return what a bundle is called: the SHA-256 of its manifest, which holds the hashes of all other files."""
    return hashlib.sha256(read_raw(folder)).hexdigest()


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


def check_signature(folder: Path, allowed_signers: Path, manifest: bytes | None = None) -> str:
    """Return who signed a bundle, one of the allowed signers.

    Args:
        folder: the bundle; the signature is that of its manifest.
        allowed_signers: in the form of ssh-keygen(1), ALLOWED SIGNERS.
        manifest: the bytes of the manifest, where they were read already, so that what is verified is what is used.

    Raises:
        ArtifactError: there is no signature, it is another file's, or its key is not allowed.
        DeviceError: the list of signers cannot be read or names nobody, or ssh-keygen is missing or hangs.
    """
    signed = read_raw(folder) if manifest is None else manifest
    try:
        return receive.signer(signed, folder / SIGNATURE, allowed_signers)
    except receive.Refused as refused:
        kind = DeviceError if refused.device else ArtifactError
        raise kind(refused.wrong, wanted=refused.wanted, do=refused.do) from refused

"""Which release may run: whole, made of plain folders and files alone, and signed where the board asks for that."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Iterator

from slimdeploy.board import receive, whole
from slimdeploy.board.errors import ArtifactError, DeviceError
from slimdeploy.board.receive import AGENT

PRIVATE = 0o700  # of every folder that releases come through: nobody else may plant anything there
BUNDLE, ENGINE = "bundle", "engine"


def accept(root: Path, folder: Path) -> str | None:
    """Verify all of a release that will run; return who signed it, or None where the board asks for no signature.

    Args:
        root: the board's folder.
        folder: `bundle`, and `engine` once it is built, in a folder that is named by the bundle's hash.

    Raises:
        ArtifactError: it is not whole, holds anything else, is not signed as it must be, or a part of it is a link.
        DeviceError: the list of signers cannot be used.
    """
    require_plain(folder)
    bundle = folder / BUNDLE
    raw = whole.read_raw(bundle)
    manifest = whole.parse_manifest(raw)
    if hashlib.sha256(raw).hexdigest() != folder.name:
        raise ArtifactError(f"the bundle holds an altered {whole.MANIFEST}", do="ship it again")
    signers = receive.signers_of(root)
    signed_by = None if signers is None else whole.check_signature(bundle, signers, raw)
    whole.check_files(bundle, manifest)  # after the signature, which says that the hashes are to be trusted
    if AGENT not in manifest["files"]:
        raise ArtifactError("the bundle has no agent", wanted=f"one with {AGENT}", do="export the model again")
    return signed_by


def require_plain(folder: Path) -> None:
    """Raise ArtifactError unless a release's folder holds a bundle and an engine, and no link anywhere."""
    for inside in (folder.parent, folder, folder / BUNDLE):
        if not _is_folder(inside):
            raise ArtifactError(f"{inside} is no folder", wanted="a release's folder, and no link", do="ship it again")
    for entry in list(os.scandir(str(folder))):
        if entry.name not in (BUNDLE, ENGINE):
            raise ArtifactError(f"the release holds {entry.name!r}, which is not part of it", do="ship it again")
    if odd := next(odd_entries(folder), None):
        raise ArtifactError(
            f"the release holds {str(odd.relative_to(folder))!r}, which is no ordinary file", do="ship it again"
        )


def odd_entries(folder: Path) -> Iterator[Path]:
    """Give everything below a folder that is neither a folder nor an ordinary file; no link is followed."""
    if not _is_folder(folder):
        if os.path.lexists(str(folder)):
            yield folder
        return
    for entry in list(os.scandir(str(folder))):
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from odd_entries(Path(entry.path))
        elif not stat.S_ISREG(mode):
            yield Path(entry.path)


def keep_bundle_only(folder: Path) -> None:
    """Remove everything but the bundle from a release that is on its way in, such as an engine that was planted."""
    if _is_folder(folder.parent) and _is_folder(folder):
        for entry in list(os.scandir(str(folder))):
            if entry.name != BUNDLE:
                remove(Path(entry.path))


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, as far as that is possible; no link is followed."""
    if _is_folder(path):
        shutil.rmtree(str(path), ignore_errors=True)
    elif os.path.lexists(str(path)):
        path.unlink()


def own_folder(path: Path) -> Path:
    """Make a folder that this user alone may enter, or make one that is there so.

    Raises:
        DeviceError: something else, such as a link, stands there, or it is another user's.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(str(path), PRIVATE)  # noqa: PTH102 - one call, so that the mode holds from the start
    known = os.lstat(str(path))
    if not stat.S_ISDIR(known.st_mode):
        raise DeviceError(f"{path} is no folder", wanted="a folder of slimdeploy's, and no link", do="remove it")
    if known.st_uid != os.geteuid():
        raise DeviceError(f"{path} belongs to another user", wanted="a folder of your own", do="ship as that user")
    if stat.S_IMODE(known.st_mode) != PRIVATE:
        os.chmod(str(path), PRIVATE)  # noqa: PTH101 - as above
    return path


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(str(path)).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False

"""Give what is complete its final name, durably, and never in place of something that stands there."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from slimdeploy.errors import OutputExists

AT_FDCWD, RENAME_NOREPLACE = -100, 1
FLUSHED_ONE_BY_ONE = 256  # of a folder's files; above that, everything that the system holds is flushed at once
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV)


def rename_new(partial: Path, out: Path) -> None:
    """Rename a file or a folder; raise OutputExists if something stands at `out`, even if it came at this moment."""
    try:
        if not (_renamed_at_once(partial, out) or _linked(partial, out)):
            _renamed_after_a_look(partial, out)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR) and os.path.lexists(out):
            raise output_exists(out, "another process made it meanwhile") from error
        raise
    flush_folder(out.parent)


def output_exists(out: Path, why: str = "") -> OutputExists:
    """Return the error for an output whose place is taken."""
    return OutputExists(
        f"the output {out} exists{f': {why}' if why else ''}",
        wanted="a name that is free, since nothing is overwritten",
        do="name another with --out, or remove it",
    )


def _renamed_at_once(partial: Path, out: Path) -> bool:
    """Rename by the system call that refuses an existing target; return False where there is none."""
    call = _renameat2()
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(partial), AT_FDCWD, os.fsencode(out), RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:  # an older kernel, or a file system such as NFS
        return False
    raise OSError(number, os.strerror(number), str(out))


@cache
def _renameat2() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call


def _linked(partial: Path, out: Path) -> bool:
    """Give a file a second name and take the first away; return False where that cannot be done."""
    if partial.is_dir():
        return False
    try:
        os.link(partial, out)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _UNSUPPORTED:  # a file system without hard links, such as FAT
            return False
        raise
    partial.unlink()
    return True


def _renamed_after_a_look(partial: Path, out: Path) -> None:
    if os.path.lexists(out):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    partial.rename(out)  # Windows refuses what exists, and everybody a folder that is not empty


def flush_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk, where the file system can tell."""
    with path.open("r+b") as stream:
        try:
            os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise


def flush_tree(folder: Path) -> None:
    """Wait until all that a folder holds is on the disk."""
    paths = list(folder.rglob("*"))
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    if len(files) > FLUSHED_ONE_BY_ONE and hasattr(os, "sync"):
        os.sync()
        return
    for path in files:
        with contextlib.suppress(PermissionError):  # a file that its maker made read-only
            flush_file(path)
    for path in (folder, *paths):
        if path.is_dir() and not path.is_symlink():
            flush_folder(path)


def flush_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folder
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

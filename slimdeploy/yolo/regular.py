"""Open regular files only: a pipe would wait for ever, and a device never ends."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from slimdeploy.errors import CheckpointError

LARGEST_GIB = 4
_WANTED = "a .pt file of a YOLO detector"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_checkpoint(path: Path) -> BufferedReader:
    """Open a checkpoint for reading.

    Raises:
        CheckpointError: it is missing, may not be read, is no regular file or larger than any checkpoint.
    """
    try:
        _require_regular(path, path.stat())  # before it is opened, since opening some devices does something
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"no checkpoint at {path}", wanted=_WANTED) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path} cannot be read: {reason}", wanted=_WANTED) from error
    stream = os.fdopen(descriptor, "rb")
    try:
        _require_regular(path, os.fstat(descriptor))
    except CheckpointError:
        stream.close()
        raise
    return stream


def _require_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise CheckpointError(f"no checkpoint at {path}: it is {kind}", wanted=_WANTED)
    if found.st_size > LARGEST_GIB << 30:
        raise CheckpointError(
            f"{path} is {found.st_size / (1 << 30):.1f} GiB large", wanted=f"a checkpoint of {LARGEST_GIB} GiB or less"
        )

"""Outputs that are complete or not there at all: files and folders, made under temporary names beside the final one.

Every writer of the package goes through `whole_file` or `whole_folder`; what only serves while a stage is at work goes
into a `scratch_folder`. What a killed process left behind is removed by the next one that writes into the same folder.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slimdeploy._leftovers import remove, sweep, temporary_name
from slimdeploy._rename import flush_file, flush_folder, flush_tree, output_exists, rename_new
from slimdeploy.errors import OutputExists, SlimdeployError, StageFailed, UsageError

SHOWN = 40  # letters of a name that is too long
FULL = (errno.ENOSPC, errno.EDQUOT)
ANOTHER = "name another with --out, or remove it"


def refuse_existing(out: Path) -> None:
    """Raise, before any work is done, where no output can be made.

    Raises:
        OutputExists: something stands at `out` already, and be it a link to nothing.
        UsageError: the name is too long, or nothing can be written into the folder that would hold it.
    """
    try:
        found = out.lstat()
    except FileNotFoundError:
        _require_writable(out.parent)
        return
    except OSError as error:
        raise cannot_write(error, out.parent if error.errno != errno.ENAMETOOLONG else out) from error
    if stat.S_ISLNK(found.st_mode) and not out.exists():
        raise OutputExists(
            f"the output {out} is a link to {out.readlink()}, which is not there", wanted="a name that is free",
            do=ANOTHER,
        )  # fmt: skip
    raise output_exists(out)


def _require_writable(folder: Path) -> None:
    """Raise UsageError unless a folder can be written into, or can be made."""
    there = _there(folder)
    if not there.is_dir():
        raise UsageError(f"cannot write into {folder}: {there} is no folder", do="name another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
        why = os.strerror(errno.EROFS if read_only else errno.EACCES)
        raise UsageError(f"cannot write into {folder}: {why}", do="name another folder")


def _there(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there.

    Raises:
        UsageError: that is a link to nothing.
    """
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one) or one == one.parent)
    if not os.path.exists(there) and there.is_symlink():  # noqa: PTH110 - Path.exists raises where links go round
        raise UsageError(f"cannot write into {folder}: {there} is a link to nothing", do="name another folder")
    return there


def cannot_write(error: OSError, place: Path) -> SlimdeployError:
    """Return the error for a place that the system lets nothing be written to."""
    if error.errno in FULL:
        return StageFailed("the disk is full", do="free some space and run the same command again")
    if error.errno == errno.ENAMETOOLONG:
        return UsageError(f"the name {_shortened(place)} is too long", wanted="a shorter one")
    return UsageError(f"cannot write into {place}: {error.strerror}", do="name another folder")


def _shortened(place: Path) -> str:
    """Return the longest name of a path, short enough to be shown."""
    longest = max(place.parts, key=lambda part: len(os.fsencode(part)), default="")
    return longest if len(longest) <= SHOWN else f"{longest[:SHOWN]}... ({len(os.fsencode(longest))} bytes)"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises:
        UsageError: the system does not allow it, or something else stands there.
        StageFailed: the disk is full.
    """
    _there(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(error, folder) from error


@contextmanager
def whole_file(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `out` to write a file to, and rename it to `out` when the block ends well.

    Args:
        out: the final name.
        replace: take the place of an older file, in one step.

    Raises:
        OutputExists: `out` is there, or another process made it meanwhile.
        UsageError: nothing can be written there.
    """
    partial = _begin(out, replace=replace)
    try:
        try:
            partial.touch(exist_ok=False)
        except OSError as error:
            raise cannot_write(error, out.parent) from error
        yield partial
        flush_file(partial)
        if replace:
            partial.replace(out)
            flush_folder(out.parent)
        else:
            rename_new(partial, out)
    except BaseException:
        remove(partial)
        raise


@contextmanager
def whole_folder(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `out` and rename it to `out` when the block ends well.

    On any error, Ctrl-C included, the temporary folder is removed and `out` never appears.

    Args:
        out: the final name.
        replace: take the place of an older folder.

    Raises:
        OutputExists: `out` is there, or another process made it meanwhile.
        UsageError: nothing can be written there.
    """
    partial = _begin(out, replace=replace)
    try:
        try:
            partial.mkdir()
        except OSError as error:
            raise cannot_write(error, out.parent) from error
        yield partial
        publish(partial, out, replace=replace)
    except BaseException:
        remove(partial)
        raise


def _begin(out: Path, *, replace: bool) -> Path:
    """Check and clear the place of an output, and return the temporary path to make it at."""
    if not replace:
        refuse_existing(out)
    make_folder(out.parent)
    sweep(out.parent)
    return out.with_name(temporary_name(out.name))


def publish(folder: Path, out: Path, *, replace: bool = False) -> None:
    """Give a complete folder its final name, after its bytes are on the disk."""
    flush_tree(folder)
    older = out.with_name(temporary_name(out.name))
    if replace and out.exists():
        out.rename(older)
    try:
        rename_new(folder, out)
    except BaseException:
        if older.exists() and not out.exists():
            older.rename(out)
        raise
    remove(older)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for what is needed only while the block runs, in the system's folder for such."""
    place = Path(tempfile.gettempdir())
    sweep(place)
    folder = place / temporary_name("slimdeploy")
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise cannot_write(error, place) from error
        yield folder
    finally:
        remove(folder)

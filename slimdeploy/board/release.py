"""The releases on a board, and which of them flies: it changes in one step, and at no moment is there half of one.

    ROOT/
      releases/HASH/bundle/    what came from the desk; HASH is the SHA-256 of its manifest
      releases/HASH/engine/    what the board built of it
      activations/000007       a link to ../releases/HASH, one for each time that a release was made the current one
      current                  a link to activations/000007, the only thing that changes when a release does
      staging/                 what is on its way in or out; nothing there counts
      lock                     held by whoever changes anything here

A folder comes into `releases` by one rename when it is whole, built and checked, and leaves by one. The order of
releases is that of the numbers, since a board's clock may be wrong by years.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, Iterator

from slimdeploy.board import trust, whole
from slimdeploy.board.errors import SCHEMA, AgentError, DeviceError, UsageError

CURRENT = "current"
KEPT = 2  # previous releases that stay beside the current one
_NUMBER = re.compile(r"[0-9]{6,12}\Z")
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_PART_OF_ROOT = {"releases", "activations", CURRENT, f".{CURRENT}.new", "staging", "lock", "allowed_signers"}


def releases(root: Path) -> Path:
    """Return the folder of whole releases."""
    return root / "releases"


def staging(root: Path) -> Path:
    """Return the folder of what is on its way in or out."""
    return root / "staging"


def require_hash(name: str) -> None:
    """Raise UsageError unless a text is a bundle's hash."""
    if not _HASH.match(name):
        raise UsageError(f"{name!r} is no release", wanted="the 64 hex digits that name a bundle")


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the board's lock; the system frees it when this process ends, however it ends.

    Raises:
        DeviceError: somebody else holds it.
    """
    import fcntl

    prepare(root)
    opened = os.open(str(root / "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)  # a link is not written through
    with os.fdopen(opened, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DeviceError(
                "somebody else is shipping to this board now", wanted="one at a time", do="try again when it has ended"
            ) from error
        yield


def prepare(root: Path) -> None:
    """Make a board's folder this user's alone; one that holds other things, too, is left as it is."""
    root.parent.mkdir(parents=True, exist_ok=True)
    if not root.exists() or (
        root.stat().st_uid == os.geteuid() and {entry.name for entry in root.iterdir()} <= _PART_OF_ROOT
    ):
        trust.own_folder(root.resolve())
    for folder in (releases(root), staging(root), root / "activations"):
        trust.own_folder(folder)


def activations(root: Path) -> dict[int, str]:
    """Return which release was made the current one, by number; those whose release is gone are left out."""
    folder = root / "activations"
    found = {}
    for entry in sorted(folder.iterdir() if folder.is_dir() else ()):
        if _NUMBER.match(entry.name) and entry.is_symlink() and entry.is_dir():
            target = os.readlink(str(entry))
            name = Path(target).name
            if _HASH.match(name) and target == f"../releases/{name}":  # a link to anywhere else is none of ours
                found[int(entry.name)] = name
    return found


def current_number(root: Path) -> int | None:
    """Return the number of the activation that `current` points at, or None where there is none."""
    with contextlib.suppress(OSError):
        target = os.readlink(str(root / CURRENT))
        name = Path(target).name
        return int(name) if _NUMBER.match(name) and target == f"activations/{name}" else None
    return None


def current(root: Path) -> str | None:
    """Return the hash of the current release, or None before the first."""
    number = current_number(root)
    return None if number is None else activations(root).get(number)


def require_current(root: Path) -> None:
    """Raise unless the board has a current release that may run.

    Raises:
        ArtifactError: it is damaged, or not signed as the board asks for now.
        DeviceError: there is none.
    """
    name = current(root)
    if name is None:
        raise DeviceError("the board has no release that a service could run", do="ship a bundle first")
    trust.accept(root, releases(root) / name)


def previous(root: Path) -> list[int]:
    """Return the activations before the current one, newest first, each release once and the current one left out."""
    number, known = current_number(root), activations(root)
    found: dict[str, int] = {}
    for one in sorted((n for n in known if number is not None and n < number), reverse=True):
        if known[one] != current(root):
            found.setdefault(known[one], one)
    return list(found.values())


def admit(root: Path, name: str) -> Path:
    """Move a staged release among the releases, once all its bytes are on the disk."""
    for folder, _, files in os.walk(str(staging(root) / name)):
        for file in files:
            _sync(Path(folder) / file)
        _sync(Path(folder))
    trust.own_folder(releases(root))
    (staging(root) / name).rename(releases(root) / name)
    _sync(releases(root))
    return releases(root) / name


def activate(root: Path, name: str) -> dict[str, Any]:
    """Make a release the current one.

    Whenever the power fails, `current` points at the release from before or at the new one: a link is made under
    another name and renamed, which the file system does in one step.

    Raises:
        ArtifactError: it is damaged, or not signed as the board asks for now.
        DeviceError: there is no such release.
    """
    require_hash(name)
    if not (releases(root) / name).is_dir():
        raise DeviceError(f"the board has no release {name[:12]}", do="ship it again")
    trust.accept(root, releases(root) / name)
    before = current(root)
    if before != name:
        folder = trust.own_folder(root / "activations")
        taken = [int(entry.name) for entry in folder.iterdir() if _NUMBER.match(entry.name)]
        number = max(taken, default=0) + 1
        (folder / f"{number:06d}").symlink_to(f"../releases/{name}")
        _sync(folder)
        _point(root, number)
    return {"schema": SCHEMA, "current": name, "previous": before}


def _point(root: Path, number: int) -> None:
    new = root / f".{CURRENT}.new"
    with contextlib.suppress(FileNotFoundError):  # of a ship that was killed here
        new.unlink()
    new.symlink_to(f"activations/{number:06d}")
    new.replace(root / CURRENT)
    _sync(root)


def rollback(root: Path) -> dict[str, Any]:
    """Make the release before the current one the current one; one that may not run is passed over.

    Raises:
        DeviceError: there is none before it that is whole, and signed where the board asks for that now.
    """
    before = current(root)
    damaged: list[dict[str, str]] = []
    for number in previous(root):
        name = activations(root)[number]
        problem = damage(releases(root) / name)
        if problem is None:
            _point(root, number)
            return {"schema": SCHEMA, "current": name, "previous": before, "damaged": damaged}
        damaged.append({"release": name, "wrong": problem})
    refused = "".join(f"; {one['release'][:12]} may not run: {one['wrong']}" for one in damaged)
    raise DeviceError(f"the board has no release to go back to{refused}", do="ship one")


def damage(release: Path) -> str | None:
    """Return why a release of a board may not run, or None where it is whole and signed as it must be."""
    try:
        trust.accept(release.parent.parent, release)
    except AgentError as error:
        return error.wrong
    except OSError as error:
        return str(error)
    return None


def prune(root: Path, keep: int = KEPT) -> dict[str, Any]:
    """Remove all but the current release and those before it.

    Args:
        root: the board's folder.
        keep: how many before it stay.

    Returns:
        The hashes of the releases that were removed, and how much room that made.
    """
    if keep < 0:
        raise UsageError(f"{keep} releases cannot be kept", wanted="0 or more")
    known = activations(root)
    free = shutil.disk_usage(str(root)).free
    stay = {current(root), *(known[number] for number in previous(root)[:keep])}
    folder = releases(root)
    removed = sorted(entry.name for entry in folder.iterdir() if entry.name not in stay) if folder.is_dir() else []
    for name in removed:
        for number in (number for number, release in known.items() if release == name):
            (root / "activations" / f"{number:06d}").unlink()
        _remove(root, folder / name)
    trust.remove(staging(root))
    freed = max(0, shutil.disk_usage(str(root)).free - free)
    return {"schema": SCHEMA, "removed": removed, "freed_bytes": freed, "current": current(root)}


def _remove(root: Path, release: Path) -> None:
    """Take a release out of the way in one step, then delete it, so that none is ever there by half."""
    gone = trust.own_folder(staging(root)) / f"gone-{release.name}"
    trust.remove(gone)
    release.rename(gone)
    shutil.rmtree(str(gone), ignore_errors=True)


def status(root: Path) -> dict[str, Any]:
    """Return what a board holds, as a JSON-ready object; a board that never got anything has no releases."""
    folder, known = releases(root), activations(root)
    names = sorted(entry.name for entry in folder.iterdir() if _HASH.match(entry.name)) if folder.is_dir() else []
    before = previous(root)
    return {
        "schema": SCHEMA,
        "root": str(root),
        "current": current(root),
        "previous": known[before[0]] if before else None,
        "releases": [_told(folder / name, current(root)) for name in names],
        "free_bytes": shutil.disk_usage(str(existing(root))).free,
    }


def _told(release: Path, flying: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"release": release.name, "current": release.name == flying}
    try:
        manifest = whole.read_manifest(release / "bundle")
        told["model"] = {key: str(manifest["model"][key]) for key in ("name", "file", "precision")}
        told["target"] = str(manifest["target"]["name"])
    except (AgentError, KeyError, TypeError) as error:
        told["wrong"] = str(error)
    return told


def existing(path: Path) -> Path:
    """Return the deepest folder of a path that is there."""
    return path if path.is_dir() else existing(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    opened = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

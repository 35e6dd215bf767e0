"""A cache that machines reach by a URL: any that fsspec knows, one archive a stage."""

from __future__ import annotations

import logging
import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.board.errors import ArtifactError as Refused
from slimdeploy.bundle.untar import Tar, write_entry
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.lineage import read_run, sha256_file
from slimdeploy.outputs import whole_folder

SUFFIX = ".tar"

log = logging.getLogger("slimdeploy.search")


class UrlStore:
    """Stages below a URL such as `s3://bucket/stages` or `file:///mnt/stages`.

    Args:
        url: where; the package that fsspec needs for its scheme must be installed.

    Raises:
        UsageError: fsspec does not know the scheme, or the place does not answer.
    """

    def __init__(self, url: str) -> None:
        with needs("search"):
            import fsspec
        try:
            self._system, self._place = fsspec.core.url_to_fs(url)
            self._system.makedirs(self._place, exist_ok=True)
        except (ValueError, ImportError, OSError) as error:
            raise UsageError(
                f"the cache {url} does not answer: {error}", wanted="a folder, or a URL that fsspec opens",
                do="check the address, and install what fsspec asks for",
            ) from error  # fmt: skip
        self._damaged: set[str] = set()  # kept there, and to be replaced

    def fetch(self, key: str, folder: Path) -> bool:
        """Bring a stage's folder here; return whether there is one that is whole.

        One that is damaged is told of and taken as missing, so that the stage is made again and replaces it.

        Raises:
            StageFailed: the cache does not answer, or this disk takes no more.
        """
        kept = f"{self._place}/{key}{SUFFIX}"
        try:
            if not self._exists(kept):
                return False
            with tempfile.TemporaryFile() as archive:
                self._get(kept, archive)
                archive.seek(0)
                with whole_folder(folder) as partial:
                    tar = Tar(archive)
                    for entry in tar:
                        write_entry(tar, entry, partial)
                    _require_whole(partial)
        except FileNotFoundError:  # removed meanwhile
            return False
        except Refused as error:
            log.warning("%s in the cache is damaged and is made again: %s", f"{key}{SUFFIX}", error.wrong)
            self._damaged.add(key)
            return False
        except OSError as error:
            raise StageFailed(
                f"the cache does not give {key}{SUFFIX}: {error}", do="run the same command again"
            ) from error
        return True

    def push(self, key: str, folder: Path) -> None:
        """Keep a stage's folder, unless it is kept already and whole; it appears there whole or not at all."""
        kept = f"{self._place}/{key}{SUFFIX}"
        if key not in self._damaged and self._exists(kept):
            return
        partial = f"{kept}.{uuid.uuid4().hex[:8]}.partial"
        with tempfile.TemporaryFile() as whole:
            with tarfile.open(fileobj=whole, mode="w:", dereference=True) as archive:  # links are not taken back
                for path in sorted(folder.iterdir()):
                    archive.add(path, arcname=path.name)
            whole.seek(0)
            self._put(whole, partial, kept)
        self._damaged.discard(key)

    def _exists(self, place: str) -> bool:
        self._system.invalidate_cache()
        return bool(self._system.exists(place))

    def _get(self, place: str, into: Any) -> None:
        with self._system.open(place, "rb") as stream:
            while block := stream.read(1 << 20):
                into.write(block)

    def _put(self, source: Any, partial: str, place: str) -> None:
        try:
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            with self._system.open(partial, "wb") as stream:
                while block := source.read(1 << 20):
                    stream.write(block)
            self._system.mv(partial, place)
        except OSError as error:
            raise StageFailed(f"the cache takes nothing more: {error}", do="free some space there") from error


def is_url(place: str) -> bool:
    """Return whether a cache's place is a URL and no folder."""
    return "://" in place


def _require_whole(folder: Path) -> None:
    """Raise Refused unless a stage's folder holds what its run record says."""
    try:
        outputs = read_run(folder).get("outputs")
    except UsageError as error:
        raise Refused(error.wrong) from error
    if not isinstance(outputs, dict):
        raise Refused("its run record names no outputs")
    for name, sha256 in outputs.items():
        path = folder / name
        if path.parent != folder or not path.is_file() or sha256_file(path) != sha256:
            raise Refused(f"it lacks {name!r} as its run record says")

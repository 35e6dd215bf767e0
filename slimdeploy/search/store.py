"""A cache that machines reach by a URL: any that fsspec knows, one archive a stage."""

from __future__ import annotations

import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.lineage import RUN_FILE
from slimdeploy.outputs import whole_folder

SUFFIX = ".tar"


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

    def fetch(self, key: str, folder: Path) -> bool:
        """Bring a stage's folder here; return whether there is one."""
        kept = f"{self._place}/{key}{SUFFIX}"
        if not self._exists(kept):
            return False
        with tempfile.TemporaryFile() as whole:
            self._get(kept, whole)
            whole.seek(0)
            with whole_folder(folder) as partial, tarfile.open(fileobj=whole, mode="r:") as archive:
                archive.extractall(partial, filter="data")
        return (folder / RUN_FILE).exists()

    def push(self, key: str, folder: Path) -> None:
        """Keep a stage's folder, unless it is kept already; it appears there whole or not at all."""
        kept = f"{self._place}/{key}{SUFFIX}"
        if self._exists(kept):
            return
        partial = f"{kept}.{uuid.uuid4().hex[:8]}.partial"
        with tempfile.TemporaryFile() as whole:
            with tarfile.open(fileobj=whole, mode="w:") as archive:
                for path in sorted(folder.iterdir()):
                    archive.add(path, arcname=path.name)
            whole.seek(0)
            self._put(whole, partial, kept)

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

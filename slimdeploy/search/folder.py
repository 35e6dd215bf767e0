"""A search's folder: what was asked for, which study it belongs to, and that one process at a time works in it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy._leftovers import sweep
from slimdeploy._needs import needs
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.fields import mismatch
from slimdeploy.files import MALFORMED
from slimdeploy.lineage import read_json, write_json
from slimdeploy.outputs import make_folder
from slimdeploy.search.spec import Spec, spec_from
from slimdeploy.search.store import is_url
from slimdeploy.search.study import redacted

SEARCH_FILE, STUDY_FILE, PROGRESS_FILE = "search.json", "study.db", "progress.json"
LOGS, CACHE, TRIALS = "logs", "cache", "trials"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A search's folder, opened.

    Attributes:
        path: the folder.
        spec: what is searched.
        identity: names the study that belongs to it.
        cache: the folder of this machine that stages are kept in.
        store: the URL that stages are kept at, or "".
        storage: the study's URL, without its password; "" for SQLite in the folder.
    """

    path: Path
    spec: Spec
    identity: str
    cache: Path
    store: str
    storage: str

    def url(self, given: str) -> str:
        """Return the study's URL.

        Args:
            given: with --storage, or "".

        Raises:
            UsageError: it is not the one that the search began with.
        """
        if redacted(given) != self.storage:
            raise UsageError(
                f"the search was begun with the storage {self.storage or 'of its folder'}",
                wanted="the same", do="name it with --storage" if self.storage else "leave --storage out",
            )  # fmt: skip
        return given or f"sqlite:///{(self.path / STUDY_FILE).resolve().as_posix()}"


def new_folder(raw: Mapping[str, Any], spec: Spec, path: Path, *, cache: str = "", storage: str = "") -> Folder:
    """Make a search's folder.

    Args:
        raw: the SEARCH.toml.
        spec: what it stands for.
        path: the folder to make.
        cache: a folder or URL that stages are kept in; "" keeps them in the search's folder.
        storage: the study's URL; "" keeps it in the folder.

    Raises:
        OutputExists: there is something already.
    """
    sweep(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        search = (path / SEARCH_FILE).exists()
        raise OutputExists(
            f"{path} holds a search already" if search else f"{path} exists and is no search's folder",
            wanted="a name that is free",
            do=f"go on with it: slimdeploy search --resume --out {path}" if search else "name another with --out",
        )
    make_folder(path)
    write_json(  # first of all: without it, the folder is nobody's
        path / SEARCH_FILE,
        {
            "schema": 1, "id": uuid.uuid4().hex[:12], "search": raw, "recipe": spec.recipe, "place": str(spec.place),
            "data": str(spec.data or ""), "cache": cache if is_url(cache) or not cache else str(Path(cache).resolve()),
            "storage": redacted(storage),
        },
    )  # fmt: skip
    make_rooms(path)
    return open_folder(path)


def make_rooms(path: Path) -> None:
    """Make the folders below a search's own, which one that was killed at its beginning may lack."""
    for name in (LOGS, TRIALS):
        make_folder(path / name)


def open_folder(path: Path) -> Folder:
    """Open a search's folder.

    Raises:
        UsageError: it is none, or is damaged.
    """
    if not (path / SEARCH_FILE).exists():
        raise UsageError(f"{path} is no search's folder", wanted="one that `slimdeploy search` made")
    plain = read_json(path / SEARCH_FILE, what="search")
    for key, hint in _FIELDS.items():
        if found := mismatch(hint, plain.get(key), key):
            raise UsageError(
                f"{path / SEARCH_FILE} is damaged: {found.wrong}",
                wanted=found.wanted,
                do="begin again with another --out",
            )
    try:
        spec = spec_from(
            plain["search"], plain["recipe"], Path(plain["place"]), data=Path(plain["data"]) if plain["data"] else None
        )
    except MALFORMED as error:
        raise UsageError(f"{path / SEARCH_FILE} is damaged: {error}", do="begin again with another --out") from error
    url = is_url(plain["cache"])
    return Folder(
        path=path, spec=spec, identity=plain["id"], storage=plain["storage"], store=plain["cache"] if url else "",
        cache=Path(plain["cache"]) if plain["cache"] and not url else (path / CACHE).resolve(),
    )  # fmt: skip


_FIELDS: Mapping[str, Any] = {
    "id": str, "search": Mapping[str, Any], "recipe": Mapping[str, Any], "place": str, "data": str, "cache": str,
    "storage": str,
}  # fmt: skip


@contextlib.contextmanager
def only_here(path: Path) -> Iterator[None]:
    """Refuse a second process that would work on the same search.

    Raises:
        OutputExists: another process works on it.
    """
    with needs("search"):
        import filelock
    try:
        with filelock.FileLock(path / ".lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise OutputExists(
            f"another process works on the search in {path}", do=f"slimdeploy search --status --out {path}"
        ) from error

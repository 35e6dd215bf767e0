"""Read a tar that somebody else wrote: ordinary files and folders below one folder, and nothing else.

Python's tarfile follows links, sparse maps and vendors' extensions, which has led outside the folder before
(CVE-2025-4517) and into endless loops (CVE-2025-8194). This reader knows none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from slimdeploy.board.errors import ArtifactError as Refused

BLOCK = 512
READ_BYTES = 1 << 20
PAX_LIMIT_BYTES = 64 << 10
NAME_LIMIT = 1000
_OCTAL = re.compile(rb"[0-7]{1,12}\Z")
_DRIVE = re.compile(r"[A-Za-z]:")
_FILE, _FOLDER, _PAX = (b"0", b"\0"), b"5", b"x"
_PAX_KEYS = {"path", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"}  # all but the first are passed over


class Readable(Protocol):
    """A stream of bytes; it may give fewer than were asked for, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a tar.

    Attributes:
        name: relative, its parts joined by `/`; none leads out of the folder.
        size_bytes: of what follows; 0 for a folder.
        is_folder: whether it is a folder, and not an ordinary file.
    """

    name: str
    size_bytes: int
    is_folder: bool


class Tar:
    """A tar that is read once, from its beginning to its end.

    Args:
        stream: its bytes.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream, self._left, self._padding = stream, 0, 0

    def __iter__(self) -> Iterator[Entry]:
        """Give one entry after another; what the caller does not read of one is passed over.

        Raises:
            Refused: the tar is damaged or cut off, or an entry is anything but an ordinary file or a folder.
        """
        path = ""
        while True:
            for _ in self.blocks():
                pass
            header = self._exactly(BLOCK)
            if not header.strip(b"\0"):
                return
            kind, size = header[156:157], _number(header[124:136], "size")
            if _number(header[148:156], "checksum") != sum(header) - sum(header[148:156]) + 8 * ord(" "):
                raise _damaged("a header's checksum is wrong")
            self._left, self._padding = size, -size % BLOCK
            if kind == _PAX:
                path = self._pax_path(size)
                continue
            name = path or _name_of(header)
            path = ""
            if kind not in (*_FILE, _FOLDER) or (kind == _FOLDER and size):
                raise Refused(
                    f"the archive holds {name[:200]!r}, which is no ordinary file",
                    wanted="no links, no devices and no sparse files",
                )
            yield Entry(name=_safe(name.removesuffix("/")), size_bytes=size, is_folder=kind == _FOLDER)

    def blocks(self) -> Iterator[bytes]:
        """Give the content of the entry that was given last, in parts."""
        while self._left:
            block = self._exactly(min(self._left, READ_BYTES))
            self._left -= len(block)
            yield block
        self._exactly(self._padding)
        self._padding = 0

    def _pax_path(self, size: int) -> str:
        """Return the name that an extended header gives to the next entry, or "" where it gives none."""
        content, path = b"", ""
        for block in self.blocks():
            content = (content + block)[: PAX_LIMIT_BYTES + 1]
        if len(content) > PAX_LIMIT_BYTES:
            raise _damaged("an extended header is too large")
        while content:
            length = content.partition(b" ")[0]
            end = int(length) if length.isdigit() and len(length) < 6 else 0
            record, content = content[len(length) + 1 : end], content[end:]
            key, equals, value = record.partition(b"=")
            if not (end and equals and value.endswith(b"\n")) or key.decode("utf-8", "replace") not in _PAX_KEYS:
                raise Refused("the archive holds an extended header that is not read", wanted="plain files")
            path = _text(value[:-1]) if key == b"path" else path
        return path

    def _exactly(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            block = self._stream.read(size - len(content))
            if not block:
                raise _damaged("it is cut off")
            content = content + block if content else block
        return content


def write_entry(tar: Tar, entry: Entry, folder: Path) -> None:
    """Write the entry that a tar gave last below a folder, which nobody else writes into.

    Raises:
        Refused: something of its name is there already.
    """
    path = folder.joinpath(*entry.name.split("/"))
    try:
        if entry.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            for block in tar.blocks():
                target.write(block)
    except (FileExistsError, NotADirectoryError) as error:
        raise Refused(f"the archive holds {entry.name} twice", wanted="every file once") from error


def _number(field: bytes, what: str) -> int:
    digits = field.strip(b" \0")
    if not _OCTAL.match(digits):
        raise _damaged(f"a header has no {what}")
    return int(digits, 8)


def _name_of(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    posix = header[257:263] == b"ustar\0"
    return _text(prefix + b"/" + name if posix and prefix else name)


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged("a name is no UTF-8") from error


def _safe(name: str) -> str:
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or _DRIVE.match(name)
        or not name.isprintable()
        or len(name) > NAME_LIMIT
    ):
        shown = repr(name[:200])
        raise Refused(f"the archive holds {shown}, which is not part of it", wanted="names below one folder")
    return name


def _damaged(why: str) -> Refused:
    return Refused(f"the archive is damaged: {why}", do="copy it again")

"""The two formats of torch.save as bytes: a pickle, and the storages that it refers to, checked before they are read.

Since torch 1.6 a file is a zip archive of `NAME/data.pkl` and one uncompressed entry a storage; before, it was a few
pickles in a row and the storages behind them. Nothing here takes more memory than the file is long.

Source: torch/serialization.py of torch 2.14.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import torch

from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import refusals
from slimdeploy.yolo.rebuilding import Rebuilder
from slimdeploy.yolo.tensors import Storage
from slimdeploy.yolo.unpickling import Unpickler

LARGEST_PICKLE = 16 * 2**20  # bytes; the largest stock network's is 0.3 MB
MOST_ENTRIES = 50_000
ZIP_START = b"PK\x03\x04"
OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of torch's magic number
_PROTOCOL = 1001
_BLOCK = 1 << 20
_LOCAL_HEADER = 30
_TAIL = struct.Struct("<4s4H2IH")  # the end of a zip archive's table of contents


def read(stream: BufferedReader, path: Path) -> Any:
    """Return what a file holds, without a call of anything that it names.

    Args:
        stream: the open file.
        path: its name, for messages.

    Raises:
        CheckpointError: the file is damaged, in another format, or holds what no checkpoint needs.
    """
    start = stream.read(len(OLD_START))
    try:
        if start.startswith(ZIP_START):
            return _ZipArchive(stream, path).load()
        if start.startswith(OLD_START):
            return _OldFile(stream, path).load()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise refusals.damaged(path) from error
    if b"PaxHeader" in start or _is_tar(stream):
        raise CheckpointError(
            f"{path} is in the tar format of torch 0.1",
            wanted="a file of a later torch.save",
            do="open it with the torch that wrote it, and save it again",
        )
    raise refusals.damaged(path)


def require_whole(stream: BufferedReader, path: Path) -> bool:
    """Raise CheckpointError if an archive is cut short or holds no checkpoint; return whether it is an archive."""
    stream.seek(0)
    start = stream.read(len(OLD_START))
    if start.startswith(OLD_START):
        return False
    if not start.startswith(ZIP_START):
        raise refusals.damaged(path)
    try:
        with zipfile.ZipFile(stream) as archive:
            _require_no_script(archive.namelist(), path)
            archive.read(_pickle_of(archive.namelist(), path))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise refusals.damaged(path) from error
    return True


def _is_tar(stream: BufferedReader) -> bool:
    stream.seek(257)
    return stream.read(5) == b"ustar"


def _pickle_of(names: list[str], path: Path) -> str:
    found = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise refusals.damaged(path)
    return found[0]


def _require_no_script(names: list[str], path: Path) -> None:
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds a program and no network",
            wanted="the .pt file that it was exported from",
            do="name that one, or export it again to ONNX",
        )


class _ZipArchive:
    """A file since torch 1.6."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self._stream, self._path = stream, path
        self._size = stream.seek(0, 2)
        self._require_short_contents()
        self._archive = zipfile.ZipFile(stream)
        self._entries = self._checked(self._archive.infolist())
        self._storages: dict[str, Storage] = {}

    def load(self) -> Any:
        names = [entry.filename for entry in self._entries.values()]
        _require_no_script(names, self._path)
        pickle = _pickle_of(names, self._path)
        self._root = pickle.removesuffix("data.pkl")
        if self._entries[pickle].file_size > LARGEST_PICKLE:
            raise _long_description(self._path)
        order = self._entries.get(f"{self._root}byteorder")
        if order is not None and (order.file_size > len("little") or self._archive.read(order) != b"little"):
            raise CheckpointError(
                f"{self._path} was written on a machine with another byte order",
                wanted="a little-endian checkpoint",
                do="save it again on an x86 or ARM machine",
            )
        rebuilder = Rebuilder(self._storage, self._path)
        reader = Unpickler(self._archive.read(pickle), rebuilder, self._path)
        return reader.load()

    def _require_short_contents(self) -> None:
        """Refuse a table of contents that takes many times its length in memory, before zipfile reads it."""
        self._stream.seek(max(0, self._size - _TAIL.size - 0xFFFF))
        tail = self._stream.read()
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or len(tail) < place + _TAIL.size:
            raise refusals.damaged(self._path)
        _, _, _, _, entries, length, _, _ = _TAIL.unpack_from(tail, place)
        if entries > MOST_ENTRIES or (length != 0xFFFFFFFF and length > 200 * MOST_ENTRIES):
            raise refusals.beyond(self._path, f"has {entries:,} entries", f"{MOST_ENTRIES:,} or fewer")

    def _checked(self, entries: list[zipfile.ZipInfo]) -> Mapping[str, zipfile.ZipInfo]:
        """Return the entries by name: none compressed, none twice, none over another, all in one folder."""
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.header_offset):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise CheckpointError(
                    f"{self._path} is a compressed archive, which torch.save does not write",
                    wanted="the .pt file as it was written",
                    do="unpack it if the checkpoint is inside, or save it again with torch.save",
                )
            if entry.header_offset < end or entry.flag_bits & 0x1:
                raise refusals.damaged(self._path)
            end = entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.file_size
        named = {entry.filename: entry for entry in entries}
        if end > self._size or len(named) != len(entries) or len({name.split("/")[0] for name in named}) != 1:
            raise refusals.damaged(self._path)
        return named

    def _storage(self, dtype: torch.dtype, key: str, count: int) -> Storage:
        if key not in self._storages:
            entry = self._entries[f"{self._root}data/{key}"]
            if count < 0 or entry.file_size != count * dtype.itemsize:
                raise ValueError("a storage of another size than its entry")
            values = torch.empty(entry.file_size, dtype=torch.uint8)
            with self._archive.open(entry) as stream:
                _fill(stream, values)
            self._storages[key] = Storage(dtype, count, values)
        return _same(self._storages[key], dtype, count)


class _OldFile:
    """A file before torch 1.6: five pickles, then every storage behind its length."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self._stream, self._path = stream, path
        self._size = stream.seek(0, 2)
        self._storages: dict[str, Storage] = {}
        self._claimed = 0

    def load(self) -> Any:
        self._stream.seek(0)
        data = self._stream.read(LARGEST_PICKLE)
        reader = Unpickler(data, Rebuilder(self._storage, self._path), self._path)
        reader.load()
        protocol, system = reader.load(), reader.load()
        if protocol != _PROTOCOL or type(system) is not dict or system.get("little_endian") is not True:
            raise refusals.damaged(self._path)
        contents = reader.load()
        keys = reader.load()
        self._stream.seek(reader.position)
        if type(keys) is not list or any(type(key) is not str for key in keys) or {*keys} != {*self._storages}:
            raise refusals.damaged(self._path)
        for key in keys:
            self._fill(self._storages[key])
        return contents

    def _storage(self, dtype: torch.dtype, key: str, count: int) -> Storage:
        if key not in self._storages:
            length = count * dtype.itemsize
            self._claimed += length
            if count < 0 or self._claimed > self._size:
                raise ValueError("storages longer than the file")
            self._storages[key] = Storage(dtype, count, torch.empty(length, dtype=torch.uint8))
        return _same(self._storages[key], dtype, count)

    def _fill(self, storage: Storage) -> None:
        (count,) = struct.unpack("<q", self._stream.read(8))
        if count != storage.count:
            raise refusals.damaged(self._path)
        _fill(self._stream, storage.values)


def _same(storage: Storage, dtype: torch.dtype, count: int) -> Storage:
    if (storage.dtype, storage.count) != (dtype, count):
        raise ValueError("one storage in two forms")
    return storage


def _fill(stream: IO[bytes], values: torch.Tensor) -> None:
    """Read bytes into a tensor of them, block by block, so that no second copy of them is ever whole."""
    view = memoryview(values.numpy())
    while view:
        block = stream.read(min(len(view), _BLOCK))
        if not block:
            raise EOFError("a storage ends too early")
        view[: len(block)] = block
        view = view[len(block) :]


def _long_description(path: Path) -> CheckpointError:
    return refusals.beyond(path, "describes its network in too many bytes", f"{LARGEST_PICKLE >> 20} MiB or fewer")

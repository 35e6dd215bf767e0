"""A bundle in one file: the same bundle gives the same bytes, and a file that someone sent is not trusted.

A `.tar.zst` holds the manifest first, then its signature where there is one, then what the manifest names. It is read
as a stream: nothing is written before the manifest has been checked, and nothing that the manifest does not name.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from slimdeploy._needs import needs
from slimdeploy.board import whole
from slimdeploy.board.errors import ArtifactError as Refused
from slimdeploy.board.whole import MANIFEST, SIGNATURE
from slimdeploy.bundle.manifest import validate
from slimdeploy.bundle.pack import verify
from slimdeploy.bundle.untar import BLOCK, Entry, Tar, write_entry
from slimdeploy.errors import ArtifactError, StageFailed
from slimdeploy.outputs import refuse_existing, scratch_folder, whole_file, whole_folder

SUFFIX = ".tar.zst"
LEVEL = 9  # weights hardly compress; higher levels cost seconds and save next to nothing
WINDOW_LIMIT_BYTES = 128 << 20  # what a stranger's file may make the decoder keep in memory
BUNDLE_LIMIT_BYTES = 8 << 30  # far above any bundle; what a stranger's manifest may ask for on the disk
EXPANSION = 20  # weights hardly compress: what grows more than this, and beyond what follows, is no bundle
EXPANSION_FREE_BYTES = 64 << 20
SIGNATURE_LIMIT_BYTES = 64 << 10
_READ_BYTES = 1 << 16
_PADDING_BYTES = 2 * _READ_BYTES  # headers, padding, and what a tar ends with


def bundle_names(manifest: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the files that make up a bundle, in the order in which they travel; its run.json stays at the desk."""
    signature = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
    return [MANIFEST, *signature, *sorted(manifest["files"])]


def write_bundle(folder: Path, out: Path) -> Path:
    """Write a bundle as one `.tar.zst`, or as a folder of exactly its files.

    Args:
        folder: the bundle's folder; it is verified first.
        out: the file or the folder to make.

    Raises:
        ArtifactError: the bundle is not whole.
        OutputExists: `out` is there already.
        MissingDependency: a `.tar.zst` needs the extra `ship`.
    """
    refuse_existing(out)
    names = bundle_names(verify(folder), folder)
    if not out.name.endswith(SUFFIX):
        with whole_folder(out) as partial:
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, partial / name)
        return out
    with needs("ship"):
        import zstandard
    with whole_file(out) as partial, partial.open("wb") as stream:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        with compressor.stream_writer(stream, closefd=False) as packed:
            _write_tar(folder, names, packed)
    return out


def _write_tar(folder: Path, names: list[str], stream: Any) -> None:
    """Only names and bytes differ between two tars: no times, owners or modes."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as file:
                tar.addfile(member, file)


@contextlib.contextmanager
def opened(bundle: Path) -> Iterator[Path]:
    """Give a bundle's folder: the folder itself, or a temporary one that a `.tar.zst` is unpacked into.

    Raises:
        ArtifactError: it is no bundle, or one that must not be unpacked; the message says why.
        MissingDependency: a `.tar.zst` needs the extra `ship`.
    """
    if bundle.is_dir():
        yield bundle
        return
    if not bundle.is_file():
        raise ArtifactError(f"no bundle at {bundle}", wanted="a folder that 'slimdeploy export' wrote, or a .tar.zst")
    if not bundle.name.endswith(SUFFIX):
        raise ArtifactError(f"{bundle} is no bundle", wanted=f"a folder, or a file named *{SUFFIX}")
    with needs("ship"):
        import zstandard
    with scratch_folder() as folder:
        try:
            with bundle.open("rb") as packed:
                decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT_BYTES)
                _unpack(decoder.stream_reader(packed), Path(folder), bundle.stat().st_size)
        except zstandard.ZstdError as error:
            raise ArtifactError(f"{bundle} is damaged: {error}", wanted="a bundle", do="copy it again") from error
        except OSError as error:
            raise StageFailed(f"{bundle} cannot be unpacked: {error}", do="free some space") from error
        except Refused as error:
            raise ArtifactError(f"{bundle}: {error.wrong}", wanted=error.wanted, do=error.do) from error
        yield Path(folder)


class _Bounded(io.RawIOBase):
    """A stream that ends with an error once it has given more than it may: the guard against bombs."""

    def __init__(self, stream: IO[bytes], limit_bytes: int) -> None:
        self._stream, self.left_bytes = stream, limit_bytes

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(min(size, self.left_bytes + 1) if size >= 0 else self.left_bytes + 1)
        self.left_bytes -= len(block)
        if self.left_bytes < 0:
            raise Refused("the archive holds more than its manifest says", wanted="a bundle that slimdeploy packed")
        return block


def _unpack(stream: IO[bytes], folder: Path, packed_bytes: int) -> None:
    bounded = _Bounded(stream, whole.MANIFEST_LIMIT_BYTES + _PADDING_BYTES)
    tar = Tar(bounded)
    manifest: dict[str, Any] | None = None
    for entry in tar:
        if manifest is None:
            manifest = _first(tar, entry, folder)
            bounded.left_bytes += _allowed_bytes(manifest, packed_bytes)
        else:
            _require_named(entry, manifest)
            write_entry(tar, entry, folder)
    if manifest is None:
        raise Refused("the archive is empty", wanted="a bundle")
    while bounded.read(_READ_BYTES):  # what follows the tar is counted, too
        pass


def _allowed_bytes(manifest: dict[str, Any], packed_bytes: int) -> int:
    wanted = whole.size_bytes(manifest)
    if wanted > BUNDLE_LIMIT_BYTES:
        raise Refused(
            f"the manifest asks for {wanted / 1e9:.0f} GB", wanted=f"{BUNDLE_LIMIT_BYTES / 1e9:.0f} GB or less"
        )
    if wanted > EXPANSION_FREE_BYTES + EXPANSION * packed_bytes:
        raise Refused(
            f"an archive of {packed_bytes / 1e6:.1f} MB asks for {wanted / 1e6:.0f} MB",
            wanted=f"at most {EXPANSION} times as much as it holds, as of weights",
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if wanted > free:
        raise Refused(f"the bundle takes {wanted / 1e6:.0f} MB and {free / 1e6:.0f} MB are free", do="free some space")
    return wanted + 2 * BLOCK * len(manifest["files"])  # a header and up to a block of padding each


def _first(tar: Tar, entry: Entry, folder: Path) -> dict[str, Any]:
    """Return the manifest, checked in whole before anything else is written."""
    if entry.name != MANIFEST or entry.is_folder or entry.size_bytes > whole.MANIFEST_LIMIT_BYTES:
        raise Refused(f"its first entry is {entry.name!r}", wanted=f"{MANIFEST}, as 'slimdeploy bundle pack' writes it")
    raw = b"".join(tar.blocks())
    manifest = whole.parse_manifest(raw)
    validate(manifest, MANIFEST)
    (folder / MANIFEST).write_bytes(raw)
    return manifest


def _require_named(entry: Entry, manifest: dict[str, Any]) -> None:
    """Refuse anything but a file that the manifest names, with the size that it names, and the signature."""
    name = entry.name
    known = manifest["files"].get(name)
    if entry.is_folder or (known is None and name != SIGNATURE):
        raise Refused(f"the archive holds {name!r}, which is not part of it", wanted="a bundle that slimdeploy packed")
    if known is None and entry.size_bytes > SIGNATURE_LIMIT_BYTES:
        raise Refused(f"{SIGNATURE} has {entry.size_bytes} bytes", wanted=f"{SIGNATURE_LIMIT_BYTES} or fewer")
    if known is not None and entry.size_bytes != known["size_bytes"]:
        raise Refused(f"the archive says that {name} has {entry.size_bytes} bytes", wanted=f"{known['size_bytes']}")

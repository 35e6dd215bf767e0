"""Judge image files by their first bytes, as ultralytics does before it trains: whole, left out, or damaged.

What is left out is whole, but no training could use it; what is damaged is refused. Pillow is imported when a file is
first judged.
"""

from __future__ import annotations

import importlib
import stat
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from slimdeploy._needs import needs
from slimdeploy.errors import DataError

# ultralytics' IMG_FORMATS; other files in a folder of images are no images.
SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
# Images that ultralytics does not train on, so that their being left out must be told.
OTHER_SUFFIXES = frozenset(
    {".gif", ".jfif", ".jpe", ".jxl", ".j2k", ".jpx", ".pbm", ".pgm", ".pnm", ".ppm", ".tga", ".ico", ".exr", ".hdr"}
)
SMALLEST_PX = 10  # ultralytics leaves out images with a shorter side
MOST_PIXELS = 178_956_970  # Pillow refuses larger ones, and so does ultralytics
JPEG_END = b"\xff\xd9"
TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap the sides
ORIENTATION = 274
_REMEMBERED = 1 << 19  # files; about 100 MiB
_PLUGINS = {
    "JPEG": "Jpeg", "PNG": "Png", "BMP": "Bmp", "TIFF": "Tiff", "WEBP": "WebP", "JPEG2000": "Jpeg2K", "AVIF": "Avif",
}  # fmt: skip
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"), (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"),
)  # fmt: skip
_HEIF = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# What Pillow raises for damaged files besides its own errors, which are OSErrors.
DAMAGE = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, OverflowError, struct.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """What is known of an image file.

    Attributes:
        size: height and width in pixels, turned as its EXIF data says; (0, 0) where that is unknown.
        left_out: why no stage uses it; "" for one that is used.
        damage: why it is refused, as what follows its name; "" for one that is whole.
    """

    size: tuple[int, int] = (0, 0)
    left_out: str = ""
    damage: str = ""


def look_at(path: Path) -> ImageFile:
    """Return what an image file is; a file that did not change is judged once.

    JPEG and PNG files, which nearly all are, are judged by headers, checksums and end marks; others are decoded.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return ImageFile(damage="is not there")
    except (OSError, ValueError) as error:
        return ImageFile(damage=_unread(error))
    if not stat.S_ISREG(status.st_mode):
        return ImageFile(damage="is no file")
    if not status.st_size:
        return ImageFile(damage="is empty (0 bytes)")
    return _judged(str(path), status.st_size, status.st_mtime_ns)


def problem_of(path: Path, damage: str) -> DataError:
    """Return the error for a damaged image."""
    return DataError(
        f"the image {path} {damage}", wanted="a whole image file",
        do="copy it again, or remove it and its labels; slimdeploy data check lists all",
    )  # fmt: skip


@lru_cache(maxsize=_REMEMBERED)
def _judged(path: str, _size: int, _modified_ns: int) -> ImageFile:
    """Judge a file; size and time of change are there so that a changed one is judged again."""
    try:
        with Path(path).open("rb") as stream:
            kind = _kind(stream.read(64))
            return _judge(stream, kind, Path(path))
    except OSError as error:
        return ImageFile(damage=_unread(error))


def _kind(head: bytes) -> str:
    """Return the format that a file begins with, by Pillow's name; "" for none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        if b"avif" in head or b"avis" in head:
            return "AVIF"
        return "HEIF" if head[8:12] in _HEIF else ""
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), "")


def _judge(stream: BinaryIO, kind: str, path: Path) -> ImageFile:
    if not kind:
        return ImageFile(damage="is no image")
    if kind not in _PLUGINS:
        return ImageFile(left_out=f"{kind} inside, which is not trained on")
    try:
        image = open_lazily(stream, kind)
    except DAMAGE as error:
        return ImageFile(damage=_said(error))
    if image is None:
        return ImageFile(left_out=f"no decoder for {kind} here")
    left_out = _unusable(*image.size)
    if left_out:
        return ImageFile(size=image.size[::-1], left_out=left_out)
    return _checked(image, stream, kind) if kind in {"JPEG", "PNG"} else _decoded(path, kind)


def _unusable(width: int, height: int) -> str:
    if width * height > MOST_PIXELS:
        return f"more than {MOST_PIXELS} pixels"
    return f"a side below {SMALLEST_PX} px" if min(width, height) < SMALLEST_PX else ""


def open_lazily(stream: BinaryIO, kind: str) -> Any:
    """Return Pillow's image of a stream, its pixels not read yet, or None where this Pillow lacks the format.

    Image.open is passed by: ultralytics replaces it by one that asks pip for a plug-in.
    """
    with needs("onnx"):
        from PIL import Image
    try:
        importlib.import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
    except ModuleNotFoundError:  # an older Pillow
        return None
    open_, accept = Image.OPEN[kind]
    stream.seek(0)
    if accept is not None and isinstance(accept(stream.read(16)), str):  # it says that it was built without it
        return None
    stream.seek(0)
    return open_(stream, "")


def _checked(image: Any, stream: BinaryIO, kind: str) -> ImageFile:
    """Judge a JPEG by its end mark and a PNG by its checksums; a JPEG with other bytes at its end is decoded."""
    height, width = image.size[::-1]
    try:
        # A PNG's EXIF data may stand behind its pixels, where only decoding finds it.
        if (kind != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION) in TURNED:
            height, width = width, height
    except DAMAGE:  # EXIF data that no decoder can read turns nothing
        pass
    try:
        if kind == "PNG":
            image.verify()
        elif not _ends_whole(stream):
            image.load()
    except DAMAGE as error:
        return ImageFile(damage=_said(error))
    return ImageFile(size=(height, width))


def _ends_whole(stream: BinaryIO) -> bool:
    stream.seek(-len(JPEG_END), 2)
    return stream.read() == JPEG_END


def _decoded(path: Path, kind: str) -> ImageFile:
    from slimdeploy.data.images import read_image

    try:
        height, width = read_image(path).shape[:2]
    except DataError:
        if path.suffix.lower() == ".dng":  # a TIFF whose pixels need a decoder of their own
            return ImageFile(left_out="no decoder for DNG here")
        return ImageFile(damage=f"is damaged: its {kind} does not decode")
    return ImageFile(size=(height, width))


def _unread(error: Exception) -> str:
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _said(error: BaseException) -> str:
    return "is damaged: " + (next(iter(str(error).splitlines()), "") or type(error).__name__)

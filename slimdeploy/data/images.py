"""Read image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from slimdeploy.data.image_files import DAMAGE, open_lazily
from slimdeploy.errors import DataError

SMALL_QUALITY = 75  # of JPEG
TIFF = frozenset({".tif", ".tiff"})
BY_PILLOW = frozenset({".avif"})  # OpenCV decodes it in some builds alone


def small_jpeg(path: Path, side: int) -> bytes:
    """Return an image file as a JPEG whose longer side is at most `side` pixels.

    Raises:
        DataError: the file is missing or does not decode.
    """
    image = read_image(path)
    scale = min(1.0, side / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, SMALL_QUALITY])
    if not done:
        raise DataError(f"the image {path} cannot be written as JPEG")
    return bytes(jpeg.tobytes())


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Return an image file's pixels, (H, W, 3) uint8 BGR, turned as its EXIF data says: the ones that training sees.

    Raises:
        DataError: the file is missing or does not decode.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)  # cv2.imread cannot open every name on Windows
    except (OSError, ValueError) as error:
        raise DataError(f"the image {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    image = _decoded(data, path) if data.size else None
    if image is None:
        raise DataError(
            f"the image {path} is damaged or no image", wanted="a whole image file", do="copy it again or remove it"
        )
    return np.asarray(image, dtype=np.uint8)


def _decoded(data: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.uint8] | None:
    """Decode a file's bytes as ultralytics does: TIFF with many bands by its first three, AVIF by Pillow."""
    suffix, image = path.suffix.lower(), None
    try:
        if suffix in TIFF:
            image = _first_bands(data)
        elif suffix in BY_PILLOW:
            image = _by_pillow(path)
        if image is None:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return (image >> 8).astype(np.uint8) if image is not None and image.dtype == np.uint16 else image


def _first_bands(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    done, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)
    return pages[0][..., :3] if done and pages[0].ndim == 3 else None  # (H, W, bands), alpha dropped


def _by_pillow(path: Path) -> npt.NDArray[np.uint8] | None:
    from PIL import ImageOps

    try:
        with path.open("rb") as stream:
            image = open_lazily(stream, "AVIF")
            if image is None:
                return None
            turned = ImageOps.exif_transpose(image)
            return np.ascontiguousarray(np.asarray(turned.convert("RGB"))[..., ::-1])
    except DAMAGE:
        return None

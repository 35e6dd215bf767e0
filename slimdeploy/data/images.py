"""Read image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from slimdeploy.errors import DataError

SMALL_QUALITY = 75  # of JPEG


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
    """Return an image file's pixels, (H, W, 3) uint8 BGR, turned as its EXIF data says.

    Raises:
        DataError: the file is missing or does not decode.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)  # cv2.imread cannot open every name on Windows
    except OSError as error:
        raise DataError(f"the image {path} cannot be read: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise DataError(
            f"the image {path} is damaged or no image", wanted="a whole image file", do="copy it again or remove it"
        )
    return np.asarray(image, dtype=np.uint8)

"""Read image files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from slimdeploy.errors import DataError


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

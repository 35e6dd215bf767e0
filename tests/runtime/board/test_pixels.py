"""The letterbox needs no OpenCV: without it the same pixels come out, within one step of 8 bits."""

from __future__ import annotations

import numpy as np
import pytest

from slimdeploy.board import pixels
from slimdeploy.board.letterbox import letterbox

SIZES = [(64, 96), (427, 640), (720, 1280), (33, 500), (1, 300)]


def an_image(size):
    """Noise on a slope, so that neither edges nor flat parts are missing."""
    slope = np.linspace(0, 200, size[1]).astype(np.uint8)[None, :, None]
    return slope + np.random.default_rng(0).integers(0, 50, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_without_opencv_the_input_is_the_same_within_one_step(size, monkeypatch):
    with_opencv, placement = letterbox(an_image(size), (320, 320))
    monkeypatch.setattr(pixels, "cv2", None)
    without, same = letterbox(an_image(size), (320, 320))
    assert placement == same
    assert np.abs(without - with_opencv).max() <= 1.01 / 255
    assert np.abs(without - with_opencv).mean() < 0.1 / 255


def test_an_input_that_is_written_again_holds_nothing_of_the_last_image():
    out = np.full((3, 64, 64), 7, dtype=np.float32)
    letterbox(an_image((64, 32)), (64, 64), out=out)
    fresh, _ = letterbox(an_image((32, 64)), (64, 64))
    again, _ = letterbox(an_image((32, 64)), (64, 64), out=out)
    assert again is out
    assert np.array_equal(again, fresh)


def test_pixels_are_divided_exactly_as_ultralytics_does():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    every[:, :, 0] = 7  # blue
    out = np.empty((3, 16, 16), dtype=np.float32)
    pixels.write_planes(every, out)
    assert np.array_equal(out[0], every[:, :, 2].astype(np.float32) / np.float32(255))
    assert (out[2] == np.float32(7) / np.float32(255)).all()

"""The letterbox against ultralytics' own code, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from slimdeploy.board.letterbox import letterbox, place

SIZES = [(320, 320), (427, 640), (1080, 1920), (765, 1360), (33, 500), (500, 33), (97, 61), (1, 300)]


def an_image(size):
    return np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("imgsz", [(320, 320), (64, 96), (256, 192)])
@pytest.mark.parametrize("size", SIZES)
def test_the_input_is_the_one_that_ultralytics_predicts_on(size, imgsz):
    augment = pytest.importorskip("ultralytics.data.augment")
    image = an_image(size)
    expected = augment.LetterBox(imgsz, auto=False)(image=image)[:, :, ::-1].transpose(2, 0, 1)
    assert np.array_equal(letterbox(image, imgsz)[0], expected.astype(np.float32) / 255)


@pytest.mark.parametrize("size", SIZES)
def test_rounding_up_gives_the_input_that_ultralytics_validates_on(size, tmp_path):
    validated = ultralytics_validation_input(size, tmp_path)
    assert np.array_equal(letterbox(an_image(size), (320, 320), round_up=True)[0], validated)


def ultralytics_validation_input(size, folder):
    """What `YOLO("model.onnx").val(imgsz=320)` feeds: its own dataset class, without rectangles."""
    dataset = pytest.importorskip("ultralytics.data.dataset")
    import cv2

    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "one.png"), an_image(size))
    one = dataset.YOLODataset.__new__(dataset.YOLODataset)
    one.ims, one.im_files, one.npy_files = [None], [str(folder / "images" / "one.png")], [folder / "none.npy"]
    one.imgsz, one.augment, one.cache, one.cv2_flag, one.prefix = 320, False, False, cv2.IMREAD_COLOR, ""
    resized, _, _ = one.load_image(0)
    from ultralytics.data.augment import LetterBox

    padded = LetterBox(320, scaleup=False)(image=resized)
    return padded[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255


def test_boxes_come_back_to_the_pixels_of_the_image():
    placement = place((100, 200), (64, 64))
    there = np.array([[0, 16, 64, 48], [16, 24, 32, 32]], dtype=np.float32)
    assert placement.to_original(there).tolist() == [[0, 0, 200, 100], [50, 25, 100, 50]]


def test_boxes_are_cut_at_the_edges_of_the_image():
    placement = place((100, 200), (64, 64))
    outside = np.array([[-10, 0, 80, 64]], dtype=np.float32)
    assert placement.to_original(outside).tolist() == [[0, 0, 200, 100]]


def test_boxes_come_back_as_in_ultralytics():
    ops = pytest.importorskip("ultralytics.utils.ops")
    boxes = np.random.default_rng(0).uniform(-20, 340, (50, 4)).astype(np.float32)
    for size in SIZES:
        expected = ops.scale_boxes((320, 320), boxes.copy(), size)
        assert np.allclose(place(size, (320, 320)).to_original(boxes), expected, atol=1e-3)

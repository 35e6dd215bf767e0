"""Layers are looked at where a network finds something, as well as everywhere else."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import ClassificationModel, DetectionModel

from slimdeploy.backends.protocol import OUTPUT
from slimdeploy.yolo import heads, places

LAYER = nn.Conv2d(4, 6, 3, padding=1)
IMAGES = 8  # over which the places of a layer come together
SCORES = torch.zeros(2, 1, 40, 40)
SCORES[0, 0, 5, 7] = SCORES[1, 0, 30, 30] = 0.9


@pytest.mark.parametrize("side", [pytest.param(160, id="a finer map"), pytest.param(40, id="the same map")])
def test_half_of_the_places_lie_at_what_is_found(side):
    at = places.at_objects(LAYER, SCORES, (side, side), IMAGES, 0)
    scale = side // 40
    for image, (y, x) in enumerate([(5, 7), (30, 30)]):
        here = (at[image] // side // scale == y) & (at[image] % side // scale == x)
        assert here.sum() == scale**2  # each place once, and this cell has no more
    assert at.shape == (2, places.SAMPLES // IMAGES)
    assert all(len(one.unique()) == len(one) for one in at)


def test_a_small_map_is_looked_at_as_a_whole():
    at = places.at_objects(LAYER, SCORES, (10, 10), IMAGES, 0)
    assert at.sort().values.tolist() == [list(range(100))] * 2


def test_where_nothing_is_found_every_place_is_as_good():
    at = places.at_objects(LAYER, torch.zeros(1, 1, 40, 40), (160, 160), IMAGES, 0)
    upper = (at // 160 < 80).float().mean()
    assert upper == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "layer", [LAYER, nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 6, 2, stride=2)]
)
def test_places_of_each_image_are_read_as_those_of_all_are(layer):
    inputs = torch.rand(2, 4, 8, 8)
    at = torch.tensor([[0, 5, 9], [15, 2, 7]])
    apart = [places.patches(layer, inputs[image : image + 1], at[image]) for image in range(2)]
    assert torch.equal(places.patches(layer, inputs, at), torch.cat(apart))


@pytest.mark.parametrize("architecture", ["yolov8n", "yolov8n-p2", "yolov8n-p6", "yolo26n"])
def test_scores_lie_on_the_finest_grid_of_every_head(architecture):
    module = DetectionModel(f"{architecture}.yaml", nc=3, verbose=False).eval()
    module.task = "detect"
    heads.keep_inferring_branch(module)
    images = torch.rand(2, 3, 128, 192)
    with torch.no_grad():
        rows = heads.named_outputs(module(images))[OUTPUT]
    found = places.best_scores(module, images)
    stride = int(module.stride.min())
    assert found.shape == (2, 1, 128 // stride, 192 // stride)
    assert torch.equal(found.flatten(1).amax(1), rows[:, 4:7].flatten(1).amax(1))


def test_a_classifier_finds_nothing_anywhere():
    module = ClassificationModel("yolov8n-cls.yaml", nc=3, verbose=False).eval()
    assert places.best_scores(module, torch.rand(1, 3, 64, 64)) is None

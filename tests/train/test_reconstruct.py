"""Fitting the weights that stay after a cut, so that a network gives what it gave before."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import (
    ClassificationModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    SegmentationModel,
    guess_model_task,
)

from slimdeploy.configs import PruneConfig
from slimdeploy.stages._built import coupling_of
from slimdeploy.stages._reconstruct import LEAST_IMAGES, images_to_fit
from slimdeploy.stages.plan import make_plan
from slimdeploy.yolo import checkpoint, coupling, moments, places, prunable, training
from slimdeploy.yolo.importance import reconstruction
from slimdeploy.yolo.reconstruct import _Fit, reconstruct
from slimdeploy.yolo.sensitivity import Trials

SIDE = 64
IMAGES = torch.rand(24, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
TWINS = (6, 5)  # channels of model.1 that are alike


def split_of(module):
    split = copy.deepcopy(module).eval()
    prunable.split(split)
    return split


def lively(module):
    """Return a network whose layers give what depends on what they read, unlike new weights with their tiny outputs."""
    module.task = guess_model_task(module)
    module.train()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.data = torch.linspace(0.5, 1.5, layer.num_features)
                layer.momentum = 1.0
        module(IMAGES)
    return module.eval()


def cut_from(dense, coupled, kept):
    made = copy.deepcopy(dense)
    coupling.cut(made, coupled, kept)
    return made, {layer: kept[group.name] for group in coupled.groups for layer in group.layers}


def outputs(module):
    with torch.no_grad():
        return module(IMAGES[:4])[0]


@pytest.fixture(scope="module")
def twins(tiny_weights):
    """A split network with two channels alike, its coupling, and what of it stays when one of them goes."""
    module = lively(checkpoint.load(tiny_weights)[0])
    block = module.model[1]
    block.bn.weight.data[TWINS[0]] = 5.0  # so that much hangs on it
    for tensor in (block.conv.weight, block.bn.weight, block.bn.bias, block.bn.running_mean, block.bn.running_var):
        tensor.data[TWINS[1]] = tensor.data[TWINS[0]]
    coupled = coupling_of(module, SIDE)
    kept = {group.name: range(group.width) for group in coupled.groups}
    kept["model.1"] = [channel for channel in kept["model.1"] if channel != TWINS[1]]
    return split_of(module), coupled, kept


def covariances(split, coupled):
    readers = {reader.layer for group in coupled.groups for reader in group.readers}
    return moments.input_covariances(split, readers, IMAGES)


def test_what_a_lost_channel_carried_is_read_from_its_twin(twins):
    dense, coupled, kept = twins
    made, rows = cut_from(dense, coupled, kept)
    lost = (outputs(made) - outputs(dense)).abs().max()
    reconstruct(made, dense, rows, IMAGES)
    assert (outputs(made) - outputs(dense)).abs().max() < 0.1 * lost


@pytest.fixture(scope="module")
def scores(twins):
    dense, coupled, _ = twins
    return reconstruction(dense, coupled, covariances(dense, coupled))


def test_of_twins_the_first_to_go_costs_nothing_and_the_other_all_the_more(scores):
    one, other = sorted(scores["model.1"][channel] for channel in TWINS)
    assert one < 0.01 * other


def half_precision_move(module):
    """Return how far outputs move when the input, weights and activations are rounded to half, relative to them."""
    exact, halved = outputs(module), copy.deepcopy(module)
    for layer in halved.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.half().float()
            layer.register_forward_hook(lambda _layer, _inputs, output: output.half().float())
    with torch.no_grad():
        moved = halved(IMAGES[:4].half().float())[0]
    return float((moved - exact)[:, 4:].norm() / exact[:, 4:].norm())


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_fitted_network_stands_up_to_half_precision_as_the_dense_one_does(tiny_weights, share):
    module = lively(checkpoint.load(tiny_weights)[0])
    coupled, dense = coupling_of(module, SIDE), split_of(module)
    config = PruneConfig(channels=share, imgsz=SIDE)
    plan = make_plan(coupled, coupling.scale_importance(dense, coupled), config, weights_sha256="")
    made, rows = cut_from(dense, coupled, {group.name: group.kept for group in plan.groups})
    reconstruct(made, dense, rows, IMAGES)
    assert half_precision_move(made) < 1.5 * half_precision_move(dense)


def test_weights_that_cancel_each_other_are_not_what_a_fit_finds():
    """Two inputs that are nearly alike: their difference gives the output exactly, and is lost in half precision."""
    shared = torch.randn(4000, generator=torch.Generator().manual_seed(0)) + 20
    apart = 0.02 * torch.randn(4000, generator=torch.Generator().manual_seed(1))
    inputs = torch.stack([shared, shared + apart], 1)
    layer = nn.Conv2d(2, 1, 1)
    layer.weight.data.zero_()
    fit = _Fit(layer, inputs=2)
    fit.add(inputs, 50 * apart[:, None])
    fit.apply(None)
    assert layer.weight.detach().abs().max() < 1


def test_a_trial_lets_the_others_make_up_for_what_goes(twins):
    dense, coupled, _ = twins
    plain = Trials(dense, coupled, IMAGES[:4])
    fitted = Trials(dense, coupled, IMAGES[:4], covariances(dense, coupled))
    before = copy.deepcopy(dense.state_dict())
    assert fitted.without({"model.1": [TWINS[1]]})[0] < 0.1 * plain.without({"model.1": [TWINS[1]]})[0]
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())


def test_the_scores_of_all_channels_come_to_one_where_nothing_else_is_read(scores):
    assert sum(scores["model.0"]) == pytest.approx(1, abs=0.01)


def test_they_come_to_less_where_other_channels_can_stand_in(scores):
    assert sum(scores["model.4.cv1[0]"]) < 0.9  # read together with the other half and what the blocks make of it


def test_fitting_changes_neither_the_whole_network_nor_constants(twins):
    dense, coupled, kept = twins
    made, rows = cut_from(dense, coupled, kept)
    before = copy.deepcopy(dense.state_dict())
    reconstruct(made, dense, rows, IMAGES)
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert torch.equal(made.model[-1].dfl.conv.weight, dense.model[-1].dfl.conv.weight)


def test_images_on_which_nothing_varies_leave_weights_that_are_numbers(twins):
    dense, coupled, kept = twins
    made, rows = cut_from(dense, coupled, kept)
    reconstruct(made, dense, rows, torch.full((4, 3, SIDE, SIDE), 0.3))
    assert all(torch.isfinite(value).all() for value in made.state_dict().values())
    assert max(float(value.detach().abs().max()) for name, value in made.named_parameters() if "conv" in name) < 100


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("yolov8n", DetectionModel),
        ("yolov8n-p2", DetectionModel),
        ("yolov8n-seg", SegmentationModel),
        ("yolov8n-pose", PoseModel),
        ("yolov8n-cls", ClassificationModel),
        ("yolo11n-obb", OBBModel),
        ("yolo26n", DetectionModel),
    ],
)
def test_every_network_comes_nearer_to_what_it_gave(architecture, kind):
    module = lively(kind(f"{architecture}.yaml", verbose=False))
    coupled = coupling_of(module, SIDE)
    dense = split_of(module)
    config = PruneConfig(channels=0.3, imgsz=SIDE)
    plan = make_plan(coupled, coupling.scale_importance(dense, coupled), config, weights_sha256="")
    made, rows = cut_from(dense, coupled, {group.name: group.kept for group in plan.groups})
    refits = reconstruct(made, dense, rows, IMAGES[:8])
    assert len({one.layer for one in refits}) == len(refits) > 20
    assert all(one.after <= one.before + 1e-3 for one in refits)
    assert sum(one.after for one in refits) < 0.6 * sum(one.before for one in refits)


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.Conv2d(4, 6, 3, stride=2, padding=1), id="a strided convolution"),
        pytest.param(nn.Conv2d(4, 6, 1), id="a pointwise one"),
        pytest.param(nn.Conv2d(4, 6, (3, 5), padding=(1, 2)), id="one whose kernel is no square"),
        pytest.param(nn.ConvTranspose2d(4, 6, 2, stride=2), id="a transposed one"),
        pytest.param(nn.Linear(4, 6), id="a linear layer"),
    ],
)
def test_a_layers_matrix_times_what_it_reads_is_what_it_gives(layer):
    inputs = torch.rand(2, 4) if isinstance(layer, nn.Linear) else torch.rand(2, 4, 8, 10)
    height, width = places.map_size(layer, inputs)
    read = places.patches(layer, inputs, torch.arange(height * width))  # (B * positions, inputs)
    made = read @ moments.matrix_of(layer).float().T
    with torch.no_grad():
        layer.bias.zero_()
        expected = layer(inputs)
    if isinstance(layer, nn.ConvTranspose2d):
        made = made.reshape(2, 8, 10, 6, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(2, 6, 16, 20)
    elif isinstance(layer, nn.Conv2d):
        made = made.reshape(2, height, width, 6).permute(0, 3, 1, 2)
    assert torch.allclose(made, expected, atol=1e-5)


def test_of_large_networks_fewer_images_are_fitted_to(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    config = PruneConfig(channels=0.5, imgsz=SIDE)
    assert images_to_fit(coupling_of(module, SIDE), coupling_of(module, SIDE).whole(), config) == 128
    large = training.new_network("yolov8x.yaml", ("a",), seed=0)
    coupled = coupling_of(large, 640)
    assert LEAST_IMAGES <= images_to_fit(coupled, coupled.whole(), config) < 16

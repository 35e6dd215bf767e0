"""Criteria by which the channels of a group are ranked."""

from __future__ import annotations

import copy

import pytest
import torch

from slimdeploy.configs import PruneConfig
from slimdeploy.errors import UsageError
from slimdeploy.stages._built import coupling_of
from slimdeploy.stages._importance import importance_of
from slimdeploy.yolo import checkpoint

SIDE = 64
LAYER = "model.7"


@pytest.fixture(scope="module")
def network(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    return module, coupling_of(module, SIDE)


def scores(network, criterion, data=None, *, seed=0):
    module, coupling = network
    config = PruneConfig(channels=0.5, imgsz=SIDE, criterion=criterion, seed=seed)
    return importance_of(module, coupling, config, data)


@pytest.mark.parametrize("criterion", ["bn_gamma", "magnitude", "taylor", "random"])
def test_every_criterion_ranks_every_channel_of_every_group(network, tiny_data, criterion):
    found = scores(network, criterion, tiny_data)
    assert {name: len(values) for name, values in found.items()} == network[1].whole()
    assert min(min(values) for values in found.values()) >= 0
    assert len(set(found[LAYER])) > 1


@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
def test_a_channel_without_weights_comes_last(network, tiny_data, criterion):
    module, coupling = copy.deepcopy(network[0]), network[1]
    block = module.model[7]
    block.conv.weight.data[5] = 0
    block.bn.weight.data[5] = block.bn.bias.data[5] = 0
    module.model[8].cv1.conv.weight.data[:, 5] = 0
    found = scores((module, coupling), criterion, tiny_data)[LAYER]
    assert min(range(len(found)), key=found.__getitem__) == 5


def test_a_seed_gives_other_random_values_and_the_same_ones_again(network):
    assert scores(network, "random") == scores(network, "random")
    assert scores(network, "random") != scores(network, "random", seed=1)


def test_taylor_leaves_the_network_as_it_was(network, tiny_data):
    module = network[0]
    before = copy.deepcopy(module.state_dict())
    scores(network, "taylor", tiny_data)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not module.training


def test_taylor_without_data_is_refused(network):
    with pytest.raises(UsageError, match=r"taylor without data.*--data"):
        scores(network, "taylor")

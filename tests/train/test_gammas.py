"""BatchNorm scales are grouped as their channels will be removed, counted, and watched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slimdeploy.yolo import checkpoint, gammas
from slimdeploy.yolo.gammas import dying_layer, live_channels, scale_histogram, scale_shares, scales


def network_with_scales(*values: float) -> nn.Module:
    norm = nn.BatchNorm2d(len(values))
    norm.weight.data = torch.tensor(values)
    return nn.Sequential(nn.Conv2d(3, len(values), 1), norm)


@pytest.fixture(scope="module")
def network(tiny_weights) -> nn.Module:
    return checkpoint.load(tiny_weights)[0]


def test_only_batchnorm_scales_count():
    network = network_with_scales(1.0, 1.0)
    assert [id(g) for g in scales(network)] == [id(network[1].weight)]


def test_coupled_groups_hold_every_scale_of_the_network_once(network):
    held = sorted((id(one.parameter), i) for group in gammas.coupled(network) for one in group for i in _range(one))
    assert held == sorted((id(gamma), i) for gamma in scales(network) for i in range(len(gamma)))


def _range(one: gammas.Slice) -> range:
    return range(one.start, one.stop)


def test_a_residual_sum_couples_the_half_that_it_starts_from_with_what_is_added(network):
    block = network.model[2]  # a C2f with one bottleneck and a shortcut
    owners = [{id(one.parameter) for one in group} for group in gammas.coupled(network)]
    assert {id(block.cv1.bn.weight), id(block.m[0].cv2.bn.weight)} in owners


def test_the_halves_of_a_c2f_are_apart_where_only_one_of_them_is_added_to(network):
    gamma = network.model[2].cv1.bn.weight
    halves = [(one.start, one.stop) for group in gammas.coupled(network) for one in group if one.parameter is gamma]
    assert sorted(halves) == [(0, 16), (16, 32)]


def test_values_are_views_that_change_the_network(network):
    group = gammas.alone(network_with_scales(1.0, 2.0))[0]
    group[0].values.mul_(0.5)
    assert group[0].parameter.tolist() == [0.5, 1.0]


def test_shares_count_magnitudes():
    shares = scale_shares(network_with_scales(1.0, -0.05, 0.005, 0.0))
    assert shares == {"below_0.1": 0.75, "below_0.01": 0.5, "below_0.001": 0.25}


def test_the_histogram_counts_every_scale_and_keeps_large_ones_in_its_last_bin():
    counts = scale_histogram(network_with_scales(0.0, 0.01, 9.0))
    assert (counts[0], counts[-1], sum(counts)) == (2, 1, 3)


def test_a_channel_lives_from_a_hundredth_on():
    assert live_channels(network_with_scales(0.01, -0.5, 0.009)) == {"1": (2, 3)}


@pytest.mark.parametrize(("live", "width", "dies"), [
    pytest.param(8, 32, False, id="eight of a wide layer"),
    pytest.param(7, 32, True, id="seven of a wide layer"),
    pytest.param(4, 8, False, id="half of a narrow layer"),
    pytest.param(3, 8, True, id="less than half of a narrow layer"),
])  # fmt: skip
def test_a_layer_dies_below_eight_live_channels_or_half_of_a_narrow_one(live, width, dies):
    network = network_with_scales(*([1.0] * live + [0.0] * (width - live)))
    assert dying_layer(network) == (("1", live, width) if dies else None)

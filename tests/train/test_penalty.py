"""The penalty moves BatchNorm scales as its formula says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slimdeploy.yolo.penalty import Proximal, Subgradient, scale_histogram, scale_shares, scales

LR, SR = 0.1, 0.5


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def step_under(penalty, gamma: nn.Parameter, gradient: float) -> torch.Tensor:
    optimizer = torch.optim.SGD([gamma], lr=LR)
    gamma.grad = torch.full_like(gamma, gradient)
    penalty.before_step([gamma])
    optimizer.step()
    penalty.after_step([gamma], optimizer)
    return gamma.detach()


def test_the_proximal_form_moves_scales_towards_zero_by_lr_times_sr():
    moved = step_under(Proximal(SR), parameter(1.0, -1.0), gradient=0.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * SR, -1.0 + LR * SR]))


def test_the_proximal_form_stops_at_exactly_zero():
    moved = step_under(Proximal(SR), parameter(0.04, -0.01), gradient=0.0)
    assert moved.tolist() == [0.0, 0.0]


def test_the_proximal_form_acts_after_the_gradient_step():
    moved = step_under(Proximal(SR), parameter(1.0), gradient=2.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * 2.0 - LR * SR]))


def test_the_subgradient_form_adds_sr_times_the_sign():
    moved = step_under(Subgradient(SR), parameter(1.0, -1.0), gradient=2.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * (2.0 + SR), -1.0 - LR * (2.0 - SR)]))


@pytest.mark.parametrize("form", [Proximal, Subgradient])
def test_a_strength_of_zero_changes_nothing(form):
    moved = step_under(form(0.0), parameter(1.0), gradient=0.0)
    assert moved.tolist() == [1.0]


def test_the_proximal_form_follows_each_groups_learning_rate_with_adamw():
    slow, fast = parameter(1.0), parameter(1.0)
    optimizer = torch.optim.AdamW([{"params": [slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}], weight_decay=0.0)
    Proximal(SR).after_step([slow, fast], optimizer)
    torch.testing.assert_close(slow.detach(), torch.tensor([1.0 - 0.01 * SR]))
    torch.testing.assert_close(fast.detach(), torch.tensor([1.0 - 0.1 * SR]))


def network_with_scales(*values: float) -> nn.Module:
    norm = nn.BatchNorm2d(len(values))
    norm.weight.data = torch.tensor(values)
    return nn.Sequential(nn.Conv2d(3, len(values), 1), norm)


def test_only_batchnorm_scales_are_penalised():
    network = network_with_scales(1.0, 1.0)
    assert [id(g) for g in scales(network)] == [id(network[1].weight)]


def test_shares_count_magnitudes():
    shares = scale_shares(network_with_scales(1.0, -0.05, 0.005, 0.0))
    assert shares == {"below_0.1": 0.75, "below_0.01": 0.5, "below_0.001": 0.25}


def test_the_histogram_counts_every_scale_and_keeps_large_ones_in_its_last_bin():
    counts = scale_histogram(network_with_scales(0.0, 0.01, 9.0))
    assert (counts[0], counts[-1], sum(counts)) == (2, 1, 3)

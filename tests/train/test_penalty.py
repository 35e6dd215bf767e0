"""The penalty moves BatchNorm scales as its formula says, whatever steps beside it."""

from __future__ import annotations

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from ultralytics.utils.torch_utils import ModelEMA

from slimdeploy.configs import SparsifyConfig, strength_at
from slimdeploy.errors import UsageError
from slimdeploy.yolo.gammas import Slice
from slimdeploy.yolo.penalty import Penalty
from slimdeploy.yolo.trainers import KeepingTrainer

LR, SR = 0.1, 0.5


def penalty(form: str, *parameters: nn.Parameter, sr: float = SR) -> Penalty:
    """A penalty on one group, whose slices are whole parameters."""
    return Penalty([tuple(Slice(one, 0, len(one)) for one in parameters)], form, sr)


def step_under(form: str, *values: float, gradient: float, sr: float = SR) -> torch.Tensor:
    gamma = nn.Parameter(torch.tensor(values))
    optimizer = torch.optim.SGD([gamma], lr=LR)
    gamma.grad = torch.full_like(gamma, gradient)
    acting = penalty(form, gamma, sr=sr)
    acting.before_step()
    optimizer.step()
    acting.after_step(optimizer)
    return gamma.detach()


def test_the_proximal_form_moves_scales_towards_zero_by_lr_times_sr():
    moved = step_under("proximal", 1.0, -1.0, gradient=0.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * SR, -1.0 + LR * SR]))


def test_the_proximal_form_stops_at_exactly_zero():
    assert step_under("proximal", 0.04, -0.01, gradient=0.0).tolist() == [0.0, 0.0]


def test_the_proximal_form_acts_after_the_gradient_step():
    moved = step_under("proximal", 1.0, gradient=2.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * 2.0 - LR * SR]))


def test_the_subgradient_form_adds_sr_times_the_sign():
    moved = step_under("subgradient", 1.0, -1.0, gradient=2.0)
    torch.testing.assert_close(moved, torch.tensor([1.0 - LR * (2.0 + SR), -1.0 - LR * (2.0 - SR)]))


@pytest.mark.parametrize("form", ["proximal", "subgradient"])
def test_a_strength_of_zero_changes_nothing(form):
    assert step_under(form, 1.0, gradient=0.0, sr=0.0).tolist() == [1.0]


@pytest.mark.parametrize("form", ["proximal", "subgradient"])
def test_a_dead_channel_stays_dead_and_finite(form):
    assert step_under(form, 0.0, gradient=0.0).tolist() == [0.0]


def test_scales_of_one_channel_shrink_together_and_keep_their_proportions():
    first, second = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))
    optimizer = torch.optim.SGD([first, second], lr=LR)
    penalty("proximal", first, second).after_step(optimizer)
    kept = 1 - LR * SR * math.sqrt(2) / 5  # 5 is the length of (3, 4)
    assert (first.item(), second.item()) == pytest.approx((3 * kept, 4 * kept))


def test_a_small_scale_survives_beside_a_large_one_of_its_channel():
    small, large = nn.Parameter(torch.tensor([0.01])), nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.SGD([small, large], lr=LR)
    penalty("proximal", small, large).after_step(optimizer)
    assert small.item() > 0


def test_the_value_is_l1_for_single_layers_and_weighs_groups_by_the_root_of_their_layers():
    first, second = nn.Parameter(torch.tensor([3.0, 0.0])), nn.Parameter(torch.tensor([4.0, -1.0]))
    assert penalty("proximal", second).value() == pytest.approx(SR * 5.0)
    assert penalty("proximal", first, second).value() == pytest.approx(SR * math.sqrt(2) * (5.0 + 1.0))


def test_the_proximal_form_follows_each_groups_learning_rate():
    slow, fast = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.AdamW([{"params": [slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}], weight_decay=0.0)
    for one in (slow, fast):
        penalty("proximal", one).after_step(optimizer)
    assert (slow.item(), fast.item()) == pytest.approx((1.0 - 0.01 * SR, 1.0 - 0.1 * SR))


@pytest.mark.parametrize(("schedule", "expected"), [
    pytest.param("constant", [1.0, 1.0, 1.0], id="constant"),
    pytest.param("decay", [1.0, 0.55, 0.1], id="decay to a tenth"),
])  # fmt: skip
def test_sr_follows_its_schedule(schedule, expected):
    settings = {"sr": 1.0, "schedule": schedule}
    assert [strength_at(settings, epoch, 3) for epoch in range(3)] == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [{"sr": -0.1}, {"penalty": "l2"}, {"scope": "global"}, {"schedule": "cosine"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError):
        SparsifyConfig(**wrong)


# The step of the trainer itself, against the formula written out plainly.

MICRO_BATCHES = 2


def trainer_around(network: nn.Module, optimizer: str, form: str, *, amp: bool, accumulate: int) -> KeepingTrainer:
    """A trainer with everything that a step touches and nothing else."""
    trainer = KeepingTrainer.__new__(KeepingTrainer)
    trainer.args, trainer.data = SimpleNamespace(warmup_bias_lr=0.0), {"nc": 1}
    trainer.model = network
    trainer.optimizer = trainer.build_optimizer(network, optimizer, lr=0.01, momentum=0.9, decay=0.0)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=amp)
    gammas = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    trainer.penalty = Penalty([(Slice(gamma, 0, len(gamma)),) for gamma in gammas], form, SR)
    trainer.ema = ModelEMA(network)
    trainer.train_loader = range(MICRO_BATCHES)
    trainer._pending = trainer._batch = 0
    trainer._batches_a_step = accumulate
    return trainer


def plain_steps(network: nn.Module, optimizer: torch.optim.Optimizer, form: str, accumulate: int) -> None:
    """The formula: per step, clip the summed gradients, add the subgradient, step, shrink."""
    gammas = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for first in range(0, MICRO_BATCHES, accumulate):
        for batch in range(first, first + accumulate):
            loss_of(network, batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        for gamma in gammas if form == "subgradient" else ():
            gamma.grad += SR * torch.sign(gamma.data)
        optimizer.step()
        for gamma in gammas if form == "proximal" else ():
            shrunk = (gamma.data.abs() - rates[id(gamma)] * SR).clamp(min=0)
            gamma.data = torch.sign(gamma.data) * shrunk
        optimizer.zero_grad()


def loss_of(network: nn.Module, batch: int) -> torch.Tensor:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
    return 30 * network(images).square().mean()  # large enough that the gradients are clipped


def tiny_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize(
    ("optimizer", "form", "amp", "accumulate"),
    list(itertools.product(["SGD", "AdamW", "MuSGD"], ["proximal", "subgradient"], [False, True], [1, 2])),
)
def test_a_step_moves_the_scales_by_the_formula(optimizer, form, amp, accumulate):
    network = tiny_network()
    network.model = [SimpleNamespace()]  # ultralytics looks for a head there
    plain = copy.deepcopy(network)
    trainer = trainer_around(network, optimizer, form, amp=amp, accumulate=accumulate)
    for batch in range(MICRO_BATCHES):
        trainer.scaler.scale(loss_of(network, batch)).backward()
        trainer.optimizer_step()
    plain_steps(plain, trainer.build_optimizer(plain, optimizer, lr=0.01, momentum=0.9, decay=0.0), form, accumulate)
    for moved, expected in zip((network[1], network[4]), (plain[1], plain[4]), strict=True):
        torch.testing.assert_close(moved.weight.data, expected.weight.data, rtol=1e-4, atol=1e-6)


def test_the_ema_follows_the_scales_after_the_penalty():
    network = tiny_network()
    before = network[1].weight.detach().clone()
    trainer = trainer_around(network, "SGD", "proximal", amp=False, accumulate=MICRO_BATCHES)
    for batch in range(MICRO_BATCHES):
        loss_of(network, batch).backward()
        trainer.optimizer_step()
    decay = trainer.ema.decay(1)
    expected = decay * before + (1 - decay) * network[1].weight.detach()
    torch.testing.assert_close(trainer.ema.ema[1].weight.data, expected)


def test_the_last_batches_of_an_epoch_step_even_if_fewer_than_accumulated():
    network = tiny_network()
    trainer = trainer_around(network, "SGD", "proximal", amp=False, accumulate=3)  # of an epoch of 2
    before = network[1].weight.detach().clone()
    for batch in range(MICRO_BATCHES):
        loss_of(network, batch).backward()
        trainer.optimizer_step()
    assert not torch.equal(network[1].weight.detach(), before)

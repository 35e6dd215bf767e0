"""BatchNorm statistics are measured anew: they become those of the images, and nothing else changes."""

from __future__ import annotations

import torch
from torch import nn

from slimdeploy.yolo.recalibrate import recalibrate


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.03)).eval()


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(8, 3, 16, 16, generator=generator) for _ in range(4)]


def test_evaluation_normalises_the_images_after_recalibration():
    module = network()
    recalibrate(module, images())
    outputs = torch.cat([module(batch) for batch in images()])
    torch.testing.assert_close(outputs.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(outputs.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_stale_statistics_are_forgotten():
    module = network()
    module[1].running_var.fill_(1000.0)
    recalibrate(module, images())
    assert float(module[1].running_var.max()) < 1.0


def test_mode_momentum_and_weights_stay():
    module = network()
    weights = module[0].weight.clone()
    recalibrate(module, images())
    assert (module.training, module[1].training, module[1].momentum) == (False, False, 0.03)
    assert torch.equal(module[0].weight, weights)


def test_without_images_nothing_changes():
    module = network()
    recalibrate(module, [])
    assert torch.equal(module[1].running_var, torch.ones(4))

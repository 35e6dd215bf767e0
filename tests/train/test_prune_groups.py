"""The groups of coupled channels of real YOLOv8 networks, and what cutting them does."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn
from ultralytics.nn.modules import C2f
from ultralytics.nn.tasks import DetectionModel

from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.yolo import checkpoint, coupling, macs, prunable

SIDE = 64
GROUPS_OF_YOLOV8N = 59
MASKED_TOLERANCE = 1e-6  # pixels and scores


@pytest.fixture(scope="module")
def stock(tiny_weights, images):
    """YOLOv8n in float64, in which every channel tells in the outputs; never changed.

    New weights let signals fade from layer to layer, so the BatchNorms take the statistics of real activations, and
    the classes lose the bias that holds new scores near 0. Rounding in float32 would hide small mistakes.
    """
    module = checkpoint.load(tiny_weights)[0].double()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        module.train()(images)
        for branch in module.model[-1].cv3:
            branch[-1].bias.zero_()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.03
    return module.eval()


@pytest.fixture(scope="module")
def split(stock):
    """The same network in the split form; never changed."""
    module = copy.deepcopy(stock)
    prunable.split(module)
    return module


@pytest.fixture(scope="module")
def coupled(split):
    return coupling.couple(split, (SIDE, SIDE))


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def dense_output(stock, images):
    return outputs(stock, images)


def outputs(module, images):
    """Boxes in pixels and scores of every anchor; shape (B, 4 + nc, anchors)."""
    with torch.no_grad():
        return module(images)[0]


def random_kept(group, seed):
    chooser = random.Random(seed)
    count = chooser.randint(1, group.width - 1)
    return tuple(sorted(chooser.sample(range(group.width), count)))


def kept_of(coupled, chosen):
    return {g.name: chosen.get(g.name, tuple(range(g.width))) for g in coupled.groups}


def masked(stock, coupled, kept):
    """Return the uncut network with the BatchNorm scale and shift of the removed channels set to zero."""
    module = copy.deepcopy(stock)
    for group in coupled.groups:
        gone = sorted(set(range(group.width)) - set(kept[group.name]))
        for layer in group.layers:
            name, _, half = layer.partition("[")
            block = module.get_submodule(name)
            start = block.bn.num_features // 2 if half == "1]" else 0
            rows = [start + channel for channel in gone]
            block.bn.weight.data[rows] = 0
            block.bn.bias.data[rows] = 0
    return module


def test_yolov8n_has_59_groups(coupled):
    assert len(coupled.groups) == GROUPS_OF_YOLOV8N


def test_every_convolution_is_in_one_group_or_kept_whole_with_a_reason(stock, coupled):
    stems = {path.removesuffix(".conv") for path, layer in stock.named_modules() if isinstance(layer, nn.Conv2d)}
    made = [layer for group in coupled.groups for layer in group.layers]
    named = made + [one.layer for one in coupled.kept_whole]
    assert len(named) == len(set(named))
    assert {name.partition("[")[0].removesuffix(".conv") for name in named} == stems
    assert all(one.why for one in coupled.kept_whole)


def test_only_the_heads_output_layers_are_kept_whole(coupled):
    outputs_of_the_head = {f"model.22.{branch}.{i}.2" for branch in ("cv2", "cv3") for i in range(3)}
    assert {one.layer for one in coupled.kept_whole} == outputs_of_the_head | {"model.22.dfl.conv"}


def test_a_residual_addition_couples_all_that_is_added(coupled):
    groups = {group.name: group for group in coupled.groups}
    assert groups["model.4.cv1[1]"].layers == ("model.4.cv1[1]", "model.4.m.0.cv2", "model.4.m.1.cv2")


def test_the_halves_of_every_c2f_are_tied(stock, coupled):
    ties = {group.name: group.tied_to for group in coupled.groups if group.tied_to}
    blocks = [path for path, block in stock.named_modules() if isinstance(block, C2f)]
    assert ties == {f"{p}.cv1[{i}]": f"{p}.cv1[{1 - i}]" for p in blocks for i in (0, 1)}


def test_sppf_is_read_four_times_from_one_group(coupled):
    group = next(group for group in coupled.groups if group.name == "model.9.cv1")
    assert [(reader.layer, reader.offsets) for reader in group.readers] == [("model.9.cv2", (0, 128, 256, 384))]


def test_parameters_and_macs_of_the_records_are_those_counted(stock, coupled):
    assert coupled.parameters(coupled.whole()) == checkpoint.count_parameters(stock)
    assert coupled.macs(coupled.whole()) == macs.count_macs(stock, (SIDE, SIDE))


def test_macs_agree_with_another_counter(stock):
    thop = pytest.importorskip("thop", reason="the counter that ultralytics uses is not installed")
    flops, _ = thop.profile(
        copy.deepcopy(stock), inputs=(torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64),), verbose=False
    )
    assert macs.count_macs(stock, (SIDE, SIDE)) == pytest.approx(flops, rel=0.02)


def test_counting_macs_changes_nothing_even_after_the_network_ran(stock, images):
    module = copy.deepcopy(stock)
    before = outputs(module, images)
    macs.count_macs(module, (SIDE, SIDE))
    assert torch.equal(outputs(module, images), before)


@pytest.mark.parametrize("index", range(GROUPS_OF_YOLOV8N))
def test_cut_equals_masked(index, stock, split, coupled, images, dense_output):
    group = coupled.groups[index]
    kept = kept_of(coupled, {group.name: random_kept(group, seed=index)})
    cut = copy.deepcopy(split)
    coupling.cut(cut, coupled, kept)
    uncut = outputs(masked(stock, coupled, kept), images)
    assert not torch.allclose(uncut, dense_output, atol=MASKED_TOLERANCE, rtol=0), "the mask changes nothing"
    assert torch.allclose(outputs(cut, images), uncut, atol=MASKED_TOLERANCE, rtol=0)


def test_cutting_all_groups_at_once_equals_masking_them_all(stock, split, coupled, images):
    chosen = {g.name: random_kept(g, seed=i) for i, g in enumerate(coupled.groups)}
    for group in coupled.groups:
        if group.tied_to:
            count = min(len(chosen[group.name]), len(chosen[group.tied_to]))
            chosen[group.name], chosen[group.tied_to] = chosen[group.name][:count], chosen[group.tied_to][-count:]
    cut = copy.deepcopy(split)
    coupling.cut(cut, coupled, chosen)
    prunable.join(cut)
    uncut = outputs(masked(stock, coupled, chosen), images)
    assert torch.allclose(outputs(cut, images), uncut, atol=MASKED_TOLERANCE, rtol=0)
    widths = {name: len(positions) for name, positions in chosen.items()}
    assert checkpoint.count_parameters(cut) == coupled.parameters(widths)
    assert macs.count_macs(cut, (SIDE, SIDE)) == coupled.macs(widths)


def test_the_split_form_gives_the_same_outputs_and_is_no_c2f(split, images, dense_output):
    assert not [block for block in split.modules() if isinstance(block, C2f)]
    assert torch.allclose(outputs(split, images), dense_output, atol=1e-5, rtol=0)


def test_split_and_joined_again_a_network_is_bit_for_bit_the_same(stock):
    module = copy.deepcopy(stock)
    prunable.split(module)
    prunable.join(module)
    before, after = stock.state_dict(), module.state_dict()
    assert list(before) == list(after)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert [path for path, _ in module.named_modules()] == [path for path, _ in stock.named_modules()]
    assert str(module) == str(stock)


def test_a_joined_c2f_keeps_its_place_and_knows_its_width(stock, split, coupled):
    module = copy.deepcopy(split)
    narrow = {name: tuple(range(4)) for name in ("model.2.cv1[0]", "model.2.cv1[1]")}
    coupling.cut(module, coupled, kept_of(coupled, narrow))
    prunable.join(module)
    block, before = module.model[2], stock.model[2]
    assert type(block) is C2f
    assert block.c == 4
    assert (block.i, block.f, block.type) == (before.i, before.f, before.type)
    assert block.np == sum(p.numel() for p in block.parameters())


def test_cutting_keeps_epsilon_and_momentum_of_every_batchnorm(split, coupled):
    module = copy.deepcopy(split)
    coupling.cut(module, coupled, {g.name: random_kept(g, seed=1) for g in coupled.groups})
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}


def test_halves_of_unequal_width_cannot_be_joined(split, coupled):
    module = copy.deepcopy(split)
    coupling.cut(module, coupled, kept_of(coupled, {"model.2.cv1[0]": (0, 1)}))
    with pytest.raises(StageFailed, match="2 and 16 wide"):
        prunable.join(module)


def test_importance_is_the_mean_scale_of_the_coupled_batchnorms(stock, split, coupled):
    scores = coupling.scale_importance(split, coupled)["model.4.cv1[1]"]
    block = stock.model[4]
    scales = [block.cv1.bn.weight[32:], block.m[0].cv2.bn.weight, block.m[1].cv2.bn.weight]
    expected = torch.stack([scale.detach().double().abs() for scale in scales]).mean(0)
    assert scores == pytest.approx(expected.tolist())


def test_a_network_with_a_smaller_head_stride_is_coupled_too():
    module = DetectionModel("yolov8n-p2.yaml", nc=2, verbose=False).eval()
    module.task = "detect"
    prunable.require_prunable(module)
    prunable.split(module)
    found = coupling.couple(module, (SIDE, SIDE))
    assert found.parameters(found.whole()) == checkpoint.count_parameters(module)
    assert len(found.groups) > GROUPS_OF_YOLOV8N


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        pytest.param("yolov5n.yaml", "made from yolov5n with the blocks C3, whose", id="YOLOv5u"),
        pytest.param("yolov9t.yaml", "made from yolov9t with the blocks AConv, ELAN1, .*wanted: YOLOv8", id="YOLOv9"),
        pytest.param("yolov10n.yaml", "made from yolov10n with the blocks .*PSA, .*v10Detect", id="YOLOv10"),
        pytest.param("yolo12n.yaml", "made from yolo12n with the blocks A2C2f, AAttn, ABlock", id="YOLO12"),
        pytest.param("yolov8n-ghost.yaml", "with the blocks C3Ghost, .*GhostConv", id="another backbone"),
        pytest.param("yolo26n-sem.yaml", "with the blocks SemanticSegment", id="another task"),
    ],
)
def test_a_network_that_cannot_be_coupled_safely_is_refused_naming_its_blocks(yaml, message):
    from ultralytics import YOLO

    with pytest.raises(UsageError, match=message):
        prunable.require_prunable(YOLO(yaml).model)


def test_a_network_whose_batchnorm_is_folded_away_is_refused(stock):
    with pytest.raises(
        UsageError, match=r"model\.0 has no BatchNorm; wanted: a checkpoint whose BatchNorm is not folded"
    ):
        prunable.require_prunable(copy.deepcopy(stock).fuse(verbose=False))

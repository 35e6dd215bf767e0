"""Every kind of network that can be pruned: cut exactly as planned, exported, and opened by ultralytics alone."""

from __future__ import annotations

import copy
import importlib.util
import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from slimdeploy.configs import PruneConfig
from slimdeploy.errors import UsageError
from slimdeploy.stages.plan import make_plan
from slimdeploy.yolo import checkpoint, coupling, heads, macs, prunable

SIDE = 128  # two cells of the coarsest map of a P6 head, whose stride is 64
ROUNDING = 1e-10  # of float64, of outputs of some tens
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# One of each kind of head, block and generation; benchmarks/networks.py takes every scale.
KINDS = (
    "yolov8n-seg",
    "yolov8n-pose",
    "yolov8n-obb",
    "yolov8n-cls",
    "yolov8n-p6",
    "yolo11n",
    "yolo26n-seg",
    "yolo26n-pose",
)
WALKED = ("yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolo11n", "yolo26n-seg")


@pytest.fixture(scope="module")
def networks():
    """The script benchmarks/networks.py, whose walk is what the README's table tells of."""
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("networks", BENCHMARKS / "networks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    sys.path.remove(str(BENCHMARKS))
    return script


@pytest.fixture(scope="module")
def folder(networks, tmp_path_factory):
    """A folder with a checkpoint of each kind, of new weights."""
    place = tmp_path_factory.mktemp("networks")
    networks.make(KINDS, place)
    return place


@pytest.fixture(scope="module")
def loaded(folder):
    """Give a fresh copy of a network in float64, by name."""

    def load(name):
        return checkpoint.load(folder / f"{name}.pt")[0].double()

    return load


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def last_outputs(module, images):
    """What all last layers give, undecoded, those that training alone needs included."""
    module = copy.deepcopy(module)
    head = module.model[-1]
    if module.task != "classify":
        head.forward = lambda inputs: heads.all_outputs(head, inputs)
    with torch.no_grad():
        return list(module(images))


def random_kept(coupled):
    """Positions that stay, some of every group; equally many in tied ones."""
    chooser, kept = random.Random(0), {}
    for group in coupled.groups:
        count = len(kept[group.tied_to]) if group.tied_to in kept else chooser.randint(1, group.width - 1)
        kept[group.name] = tuple(sorted(chooser.sample(range(group.width), count)))
    return kept


def silence(module, coupled, kept):
    """Set the channels that go to zero, in a stock network, where they are made."""
    for group in coupled.groups:
        gone = sorted(set(range(group.width)) - set(kept[group.name]))
        for layer in group.layers:
            name, _, half = layer.partition("[")
            block = module.get_submodule(name)
            if isinstance(block, nn.ConvTranspose2d):  # has no BatchNorm
                block.weight.data[:, gone] = block.bias.data[gone] = 0
            else:
                rows = [channel + (block.bn.num_features // 2 if half == "1]" else 0) for channel in gone]
                block.bn.weight.data[rows] = block.bn.bias.data[rows] = 0


@pytest.mark.parametrize("name", KINDS)
def test_a_network_cut_in_every_group_equals_it_silenced(name, loaded, images):
    stock = loaded(name)
    cut = copy.deepcopy(stock)
    prunable.split(cut)
    coupled = coupling.couple(cut, (SIDE, SIDE))
    kept = random_kept(coupled)
    coupling.cut(cut, coupled, kept)
    prunable.join(cut)
    dense = last_outputs(stock, images)
    silence(stock, coupled, kept)
    pairs = list(zip(last_outputs(cut, images), last_outputs(stock, images), dense, strict=True))
    assert all(not torch.allclose(silenced, before, atol=1e-6, rtol=0) for _, silenced, before in pairs)
    assert max(float((small - silenced).abs().max()) for small, silenced, _ in pairs) < ROUNDING
    widths = {group: len(positions) for group, positions in kept.items()}
    assert checkpoint.count_parameters(cut) == coupled.parameters(widths)
    assert macs.count_macs(cut, (SIDE, SIDE)) == coupled.macs(widths)
    assert [type(block) for block in cut.modules()] == [type(block) for block in stock.modules()]


@pytest.fixture(scope="module")
def walked(networks, folder):
    """What pruning, exporting and opening with ultralytics alone gave, by network."""
    rows = [networks.slim(name, folder, counted_at=SIDE, imgsz=SIDE) for name in WALKED]
    answers = networks.open_with_stock(rows, folder, SIDE)
    return {row["network"]: (row, answer) for row, answer in zip(rows, answers, strict=True)}


@pytest.mark.parametrize("name", WALKED)
def test_a_pruned_network_is_smaller_and_stock_ultralytics_predicts_with_it_and_refuses_to_train_it(
    name, walked, networks
):
    assert networks.wrong(*walked[name]) == []


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        pytest.param("yolov8n-seg", {"output0": [1, 116, 336], "output1": [1, 32, 32, 32]}, id="segment"),
        pytest.param("yolov8n-pose", {"output0": [1, 56, 336]}, id="pose"),
        pytest.param("yolov8n-obb", {"output0": [1, 85, 336]}, id="obb"),
        pytest.param("yolov8n-cls", {"output0": [1, 1000]}, id="classify"),
        pytest.param("yolo11n", {"output0": [1, 84, 336]}, id="detect"),
        pytest.param("yolo26n-seg", {"output0": [1, 116, 336], "output1": [1, 32, 32, 32]}, id="a branch of YOLO26"),
    ],
)
def test_the_manifest_tells_the_shape_of_every_output(name, outputs, walked):
    assert walked[name][0]["outputs"] == outputs


def test_every_part_of_an_output_is_compared_with_pytorch(walked):
    checks = {name: row["check"] for name, (row, _) in walked.items()}
    assert 0 < checks["yolov8n-pose"]["keypoint_shift_px"] < 0.1
    assert 0 < checks["yolov8n-seg"]["mask_change"] < 1e-3
    assert 0 < checks["yolov8n-obb"]["box_shift_px"] < 0.1
    assert checks["yolov8n-cls"]["boxes"] == 0
    assert 0 < checks["yolov8n-cls"]["score_change"] < 1e-3


@pytest.mark.slow
def test_every_network_that_is_promised_passes_every_step(networks):
    for name in networks.NETWORKS:
        assert networks.walk([name], SIDE)[0]["wrong"] == [], name


def test_attention_and_all_that_is_added_to_its_channels_keep_their_widths(loaded):
    module = loaded("yolo11n")
    prunable.split(module)
    coupled = coupling.couple(module, (SIDE, SIDE))
    whole = {one.layer: one.why for one in coupled.kept_whole}
    for layer in ("attn.qkv", "attn.pe", "attn.proj", "ffn.1"):
        assert "attention" in whole[f"model.10.m.0.{layer}"]
    assert "attention" in whole["model.10.cv1[1]"]
    assert whole["model.10.cv1[0]"] == "the other half of model.10.cv1[1], which keeps its width"
    assert "model.10.m.0.ffn.0" in {group.name for group in coupled.groups}


def test_a_depthwise_convolution_goes_with_the_channels_that_it_reads(loaded):
    module = loaded("yolo11n")
    prunable.split(module)
    coupled = coupling.couple(module, (SIDE, SIDE))
    group = next(group for group in coupled.groups if "model.16.cv2" in group.layers)
    assert "model.23.cv3.0.0.0" in group.layers
    layer = next(layer for layer in coupled.layers if layer.name == "model.23.cv3.0.0.0")
    assert (layer.kind, layer.inputs, layer.outputs) == ("depthwise", 1, 64)


@pytest.mark.parametrize(("end2end", "infers", "trains"), [(False, "cv2", "one2one_cv2"), (True, "one2one_cv2", "cv2")])
def test_the_branch_that_yolo26_does_not_infer_with_costs_nothing_and_is_cut_all_the_same(
    loaded, end2end, infers, trains
):
    module = loaded("yolo26n-seg")
    module.end2end = end2end
    prunable.split(module)
    coupled = coupling.couple(module, (SIDE, SIDE))
    positions = {layer.name: layer.positions for layer in coupled.layers}
    assert positions[f"model.23.{trains}.0.0"] == 0
    assert positions[f"model.23.{infers}.0.0"] == (SIDE // 8) ** 2
    assert {f"model.23.{branch}.0.0" for branch in (infers, trains)} <= {group.name for group in coupled.groups}


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n-pose", "yolov8n-p6"])
def test_split_and_joined_again_any_network_is_bit_for_bit_the_same(name, loaded):
    stock = loaded(name)
    module = copy.deepcopy(stock)
    prunable.split(module)
    prunable.join(module)
    before, after = stock.state_dict(), module.state_dict()
    assert list(before) == list(after)
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    assert str(module) == str(stock)


def test_an_alignment_above_every_width_of_a_classifier_keeps_it_whole_and_says_so(loaded):
    module = loaded("yolov8n-cls")
    prunable.split(module)
    coupled = coupling.couple(module, (SIDE, SIDE))
    config = PruneConfig(channels=0.0, alignment=4096, imgsz=SIDE)
    plan = make_plan(coupled, coupling.scale_importance(module, coupled), config, weights_sha256="")
    reasons = {one.layer: one.why for one in plan.kept_whole}
    assert reasons["model.0"] == "no narrower width is a multiple of 4096"
    assert reasons["model.9.linear"].startswith("an output of the network")


def test_an_input_that_does_not_suit_the_stride_of_a_p6_head_is_refused(loaded):
    module = loaded("yolov8n-p6")
    with pytest.raises(UsageError, match=r"an input of 96x96 pixels; wanted: sides that are multiples of 64"):
        coupling.couple(module, (96, 96))

"""A cut network is judged by what it finds, on training images that its weights were not fitted on."""

from __future__ import annotations

import logging

import pytest

from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import Dataset, read_dataset
from slimdeploy.errors import GateError
from slimdeploy.records import ClassAgreement, DetectionAgreement
from slimdeploy.stages._agreement import (
    LEAST_IMAGES,
    MACS,
    MOST_IMAGES,
    agreement_with,
    images_to_judge,
    require_agreement,
)
from slimdeploy.stages._trials import spread
from slimdeploy.yolo import checkpoint

SIDE = 64
CONFIG = PruneConfig(channels=0.5, imgsz=SIDE)


def dataset_of(count, folder):
    images = tuple(folder / f"{number:04d}.jpg" for number in range(count))
    return Dataset(path=folder / "data.yaml", name="some", classes=("a",), splits={"train": images})


def test_images_are_others_than_those_that_weights_were_fitted_on(tmp_path):
    dataset = dataset_of(200, tmp_path)
    judged = images_to_judge(dataset, 128, macs=1)
    assert len(judged) == MOST_IMAGES
    assert not set(judged) & set(spread(dataset, 128))


def test_a_small_training_split_is_judged_on_all_of_it(tmp_path):
    dataset = dataset_of(20, tmp_path)
    assert images_to_judge(dataset, 128, macs=1) == list(dataset.images("train"))


def test_large_networks_are_judged_on_fewer_images(tmp_path):
    dataset = dataset_of(400, tmp_path)
    assert len(images_to_judge(dataset, 128, macs=int(MACS / 20))) == 20
    assert len(images_to_judge(dataset, 128, macs=int(MACS))) == LEAST_IMAGES


def compared(weights, data, change=lambda module: None):
    module, known = checkpoint.load(weights)
    cut, _ = checkpoint.load(weights)
    for branch in module.model[-1].cv3:
        branch[2].bias.data += 4.0  # new weights, which find something everywhere with it
    cut.load_state_dict(module.state_dict())
    change(cut)
    dataset = read_dataset(data)
    return agreement_with(module, cut, known, CONFIG, dataset, dataset.images("train"))


def test_a_network_agrees_with_itself_and_its_accuracy_is_its_own(tiny_weights, tiny_data):
    agreement = compared(tiny_weights, tiny_data)
    assert agreement.share == 1.0
    assert agreement.score_change == 0.0
    assert agreement.map50_95[0] == agreement.map50_95[1]
    assert sum(row.dense for row in agreement.by_class) == agreement.dense > 0


def test_boxes_that_all_lie_elsewhere_do_not_agree_although_as_many_score(tiny_weights, tiny_data):
    def move(module):
        for branch in module.model[-1].cv2:
            branch[2].bias.data[:] = 0
            branch[2].bias.data[::16] = 30  # every side at its nearest

    agreement = compared(tiny_weights, tiny_data, move)
    assert agreement.changed > 0
    assert agreement.share < 0.5


def test_where_the_whole_network_finds_next_to_nothing_nothing_is_judged(tiny_weights, tiny_data, caplog):
    module, known = checkpoint.load(tiny_weights)
    for branch in module.model[-1].cv3:
        branch[2].bias.data[:] = -20
    dataset = read_dataset(tiny_data)
    assert agreement_with(module, module, known, CONFIG, dataset, dataset.images("train")[:2]) is None
    assert "finds 0 objects on 2 training images, so nothing shows what the plan costs" in caplog.text


def agreement(matched):
    rows = (
        ClassAgreement(name="car", dense=80, changed=80, matched=matched),
        ClassAgreement(name="van", dense=20, changed=20, matched=0),
    )
    return DetectionAgreement(images=9, dense=100, changed=100, matched=matched, score_change=0.1, by_class=rows)


def test_below_the_least_agreement_a_cut_is_refused_with_classes_and_groups():
    with pytest.raises(GateError) as stopped:
        require_agreement(agreement(24), CONFIG, lambda: "model.4 (64 to 8 channels)")
    assert (
        "finds 24% of what the whole one finds (of 100 boxes 24 are found again and 76 are new" in stopped.value.wrong
    )
    assert "of car 24 of 80, van 0 of 20; alone, these groups take most: model.4 (64 to 8" in stopped.value.wrong
    assert "--least-agreement 0" in stopped.value.do


def test_between_the_bars_there_is_a_warning_and_above_there_is_none(caplog):
    with caplog.at_level(logging.WARNING):
        require_agreement(agreement(74), CONFIG, lambda: pytest.fail("asked"))
    assert "finds 74% of what the whole one finds" in caplog.text
    caplog.clear()
    require_agreement(agreement(76), CONFIG, lambda: pytest.fail("asked"))
    assert caplog.text == ""

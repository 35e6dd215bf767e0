"""What narrowing groups does to a network's outputs: measured without cutting, equal to cutting."""

from __future__ import annotations

import copy

import pytest
import torch

from slimdeploy.errors import GateError
from slimdeploy.stages._built import coupling_of, cut_copy
from slimdeploy.stages._trials import LEAST_SIDE, MACS, Trials, trial_images, trial_size
from slimdeploy.stages.losses import planned_units
from slimdeploy.yolo import checkpoint, prunable, sensitivity
from slimdeploy.yolo.coupling import scale_importance

SIDE = 64
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network(tiny_weights):
    """The stock network, its coupling and its split form."""
    module, _ = checkpoint.load(tiny_weights)
    split = copy.deepcopy(module)
    prunable.split(split)
    return module, coupling_of(module, SIDE), split


def outputs(module):
    with torch.no_grad(), sensitivity._batch_statistics(module):
        return module(IMAGES)[0]


def test_silenced_channels_are_as_good_as_gone(network):
    module, coupling, split = network
    gone = {"model.4.m.0.cv1": [0, 5, 9], "model.4.cv1[1]": [1, 2]} | {"model.4.cv1[0]": [3, 4]}
    kept = {g.name: [i for i in range(g.width) if i not in gone.get(g.name, [])] for g in coupling.groups}
    trials = sensitivity.Trials(split, coupling, IMAGES)
    with trials._silenced(gone):
        silenced = outputs(split)
    assert torch.allclose(silenced, outputs(cut_copy(module, coupling, kept)), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(silenced, outputs(split), atol=1e-3, rtol=1e-3)


def test_a_trial_leaves_weights_and_statistics_as_they_were(network):
    _, coupling, split = network
    before = copy.deepcopy(split.state_dict())
    sensitivity.Trials(split, coupling, IMAGES).without({"model.4.m.0.cv1": [0, 1, 2]})
    assert all(torch.equal(before[name], value) for name, value in split.state_dict().items())


def test_nothing_gone_does_no_damage(network):
    _, coupling, split = network
    damage, (before, after) = sensitivity.Trials(split, coupling, IMAGES).without({"model.4.m.0.cv1": []})
    assert damage == pytest.approx(0, abs=1e-5)
    assert before == after


def damage(before, after, classes=1):
    return sensitivity.damage({"output0": before}, {"output0": after}, classes)


def positives(outputs, classes=1):
    return sensitivity.positives({"output0": outputs}, classes)


def test_keypoints_that_vanish_are_a_damage_of_one_and_no_positives_less():
    before = torch.tensor([[[10.0], [10], [8], [8], [0.9], [5.0], [7.0]]])  # (1, 4 + 1 + 2, 1)
    after = before.clone()
    after[:, 5:] = 0
    assert damage(before, after) == pytest.approx(1.0)
    assert positives(after) == positives(before) == 1


def test_a_classifier_that_doubts_everything_has_no_positives():
    before, after = torch.tensor([[0.9, 0.1]]), torch.full((1, 10), 0.1)
    assert (positives(before, 2), positives(after, 10)) == (1, 0)
    assert damage(before, torch.zeros(1, 2), 2) == pytest.approx(1.0)


def test_scores_that_vanish_are_a_damage_of_one_and_no_positives():
    before = torch.tensor([[[10.0, 30], [10, 10], [8, 8], [8, 8], [0.9, 0.1]]])  # (1, 5, 2)
    after = before.clone()
    after[:, 4] = 0
    assert damage(before, after) == pytest.approx(1.0)
    assert (positives(before), positives(after)) == (1, 0)


def test_a_box_that_moves_away_is_a_damage_of_one():
    before = torch.tensor([[[10.0], [10], [8], [8], [0.9]]])
    after = before.clone()
    after[:, 0] = 50
    assert damage(before, after) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def fragile(network):
    """A network that finds something everywhere, as long as the last hidden class convolutions stay whole."""
    module, _, _ = network
    changed = copy.deepcopy(module)
    for branch in changed.model[-1].cv3:
        hidden, last = branch[1], branch[2]
        hidden.bn.bias.data[:] = 2.0
        hidden.bn.weight.data[:] = torch.linspace(0.001, 0.002, hidden.bn.num_features)  # so nothing else matters
        last.weight.data[:] = 0.1
        last.bias.data[:] = -8.5  # all 64 channels, each 1.76, lift the logit to 2.8, half of them to -2.9
    return changed


def tried(module):
    coupling = coupling_of(module, SIDE)
    split = copy.deepcopy(module)
    prunable.split(split)
    units = planned_units(coupling, 8, 0.125)
    return coupling, Trials(split, coupling, units, scale_importance(split, coupling), list(IMAGES.numpy()))


def test_the_layers_that_all_scores_hang_on_are_found_by_measuring(fragile):
    _, trials = tried(fragile)
    worst = sorted(trials.alone, key=lambda one: one.positives[1])[:3]
    assert {one.groups[0] for one in worst} == {f"model.22.cv3.{i}.1" for i in range(3)}
    assert worst[0].positives[1] < 0.5 * worst[0].positives[0]


def test_a_plan_that_kills_all_positives_is_refused_with_the_layers_named(fragile):
    coupling, trials = tried(fragile)
    widths = coupling.whole() | {f"model.22.cv3.{i}.1": 8 for i in range(3)}
    with pytest.raises(GateError, match=r"kills all positives: of \d+ .* model\.22\.cv3\.\d\.1 \(64 to 8 channels\)"):
        trials.whole(widths)


def test_images_on_which_the_whole_network_finds_next_to_nothing_refuse_no_plan(fragile, caplog):
    blind = copy.deepcopy(fragile)
    for branch in blind.model[-1].cv3:
        branch[2].bias.data[:] = -20
    coupling, trials = tried(blind)
    widths = coupling.whole() | {f"model.22.cv3.{i}.1": 8 for i in range(3)}
    assert trials.whole(widths).positives == (0, 0)
    assert trials.whole(widths).positives == (0, 0)
    warnings = [record.message for record in caplog.records if "finds next to nothing" in record.message]
    assert len(warnings) == 1


def test_a_plan_that_spares_those_layers_passes(fragile):
    coupling, trials = tried(fragile)
    done = trials.whole(coupling.whole() | {"model.7": 128})
    assert done.groups == ("model.7",)
    assert done.positives[1] > 0


def test_large_networks_are_tried_on_fewer_and_then_on_smaller_images():
    small = 10**7
    assert trial_size(small, 320, 32, 51) == (320, 32)
    assert trial_size(10**9, 320, 32, 51) == (320, int(MACS / 51e9))
    side, images = trial_size(129 * 10**9, 640, 32, 90)
    assert side == LEAST_SIDE
    assert images < 32


def test_trials_of_one_image_stay_at_one_image():
    assert trial_size(129 * 10**9, 640, 1, 90)[1] == 1


def test_scenes_are_scaled_down_to_an_input_smaller_than_any_of_them():
    pictures, _ = trial_images(None, ("car",), 32, count=2)
    assert [picture.shape for picture in pictures] == [(3, 32, 32)] * 2

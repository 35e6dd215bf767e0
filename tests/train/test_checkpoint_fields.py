"""A checkpoint whose fields do not fit its network, or whose network cannot do its work, is refused by every verb."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner
from ultralytics.nn.tasks import DetectionModel, PoseModel

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.cli import app
from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import checkpoint


@pytest.fixture
def module(tiny_weights):
    return checkpoint.load(tiny_weights)[0]


@pytest.fixture
def pose():
    """A pose network with three keypoints of two values."""
    module = PoseModel("yolov8n-pose.yaml", nc=1, data_kpt_shape=(3, 2), verbose=False)
    module.names, module.task = {0: "person"}, "pose"
    return module


def saved(module, path):
    torch.save({"model": module}, path)
    return path


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        pytest.param(5, "has 5 for the names of its classes", id="a number"),
        pytest.param("ab", "has 'ab' for the names", id="a text"),
        pytest.param(None, "has None for the names", id="nothing"),
        pytest.param({}, "has {} for the names|a dict for the names", id="none"),
        pytest.param([], r"has \[\] for the names", id="an empty list"),
        pytest.param({0: "square", 2: "bar"}, r"numbers its 2 classes wrongly \(one is 2\)", id="a gap"),
        pytest.param({1: "square", 2: "bar"}, "numbers its 2 classes wrongly", id="from 1 on"),
        pytest.param({"0": "square", "1": "bar"}, r"numbers its 2 classes wrongly \(one is '0'\)", id="text keys"),
        pytest.param({False: "square", True: "bar"}, r"numbers its 2 classes wrongly \(one is False\)", id="bool keys"),
        pytest.param({-1: "square", 0: "bar"}, "numbers its 2 classes wrongly", id="a negative number"),
        pytest.param({0: "square", 1: None}, "has None for the name of class 1", id="a missing name"),
        pytest.param(["square", ["bar"]], "for the name of class 1", id="a list for a name"),
        pytest.param({0: "square", 1: 1.5}, "has 1.5 for the name of class 1", id="a float for a name"),
        pytest.param({0: "square", 1: ""}, "has '' for the name of class 1", id="an empty name"),
        pytest.param({0: "square", 1: " \n"}, r"has ' \\n' for the name of class 1", id="a blank name"),
        pytest.param({0: "bar", 1: "bar"}, "calls both class 0 and class 1 'bar'", id="one name twice"),
        pytest.param({0: "bar", 1: "bar "}, "calls both class 0 and class 1 'bar '", id="one name but for a space"),
        pytest.param({0: "square"}, "names 1 classes and its head scores 2", id="fewer than scores"),
        pytest.param(
            {0: "square", 1: "bar", 2: "disc"}, "names 3 classes and its head scores 2", id="more than scores"
        ),
    ],
)
def test_names_that_do_not_fit_are_refused(module, tmp_path, names, reason, trust):
    module.names = names
    with pytest.raises(CheckpointError, match=reason) as refused:
        checkpoint.load(saved(module, tmp_path / "odd.pt"), trust=trust)
    assert str(refused.value).isprintable()


def test_a_list_of_names_and_numbers_for_names_are_taken(module, tmp_path):
    module.names = [7, "bar"]
    assert checkpoint.load(saved(module, tmp_path / "numbers.pt"))[1].classes == ("7", "bar")


def test_a_head_that_counts_other_classes_than_it_scores_is_refused(module, tmp_path):
    module.names = {0: "square", 1: "bar", 2: "disc"}
    module.model[-1].nc = 3
    with pytest.raises(CheckpointError, match="names 3 classes and its head scores 2"):
        checkpoint.load(saved(module, tmp_path / "odd.pt"))


def test_the_count_of_a_head_must_be_that_of_the_names(module, tmp_path):
    module.model[-1].nc = 1
    with pytest.raises(CheckpointError, match="names 2 classes and its head counts 1"):
        checkpoint.load(saved(module, tmp_path / "odd.pt"))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("stride", "reason"),
    [
        (None, "has None for its stride"),
        ([], r"has \[\] for its stride"),
        (math.inf, "has inf for its stride"),
        (torch.tensor([8.0, 16.0, math.inf]), "for its stride"),
        (torch.tensor([8.0, 16.0, math.nan]), "for its stride"),
        (torch.tensor([]), r"has \[\] for its stride"),
        (torch.tensor([8.0, 16.0, 0.0]), "for its stride"),
        (torch.tensor([8.0, 16.0, 32.5]), "for its stride"),
        (torch.tensor([8.0, 16.0, -32.0]), "for its stride"),
        (torch.tensor([8.0, 16.0, 1e30]), "for its stride"),
        ("x", "has 'x' for its stride"),
        ({8: 16}, "a dict for its stride"),
        ([8, True], "for its stride"),
        (torch.tensor([8.0, 16.0]), r"has the strides \[8, 16\] and its head \[8, 16, 32\]"),
        (torch.tensor([8.0, 16.0, 64.0]), r"has the strides \[8, 16, 64\] and its head \[8, 16, 32\]"),
    ],
    ids=str,
)
def test_a_stride_that_is_none_is_refused(module, tmp_path, stride, reason, trust):
    module.stride = stride
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(saved(module, tmp_path / "odd.pt"), trust=trust)


def test_a_missing_stride_is_refused(module, tmp_path):
    del module.stride
    with pytest.raises(CheckpointError, match="has None for its stride"):
        checkpoint.load(saved(module, tmp_path / "odd.pt"))


def test_a_stride_as_a_list_becomes_a_tensor(module, tmp_path):
    module.stride = [8, 16, 32]
    again, known = checkpoint.load(saved(module, tmp_path / "list.pt"))
    assert (known.stride, again.stride.tolist()) == (32, [8.0, 16.0, 32.0])


@pytest.mark.parametrize("shape", ["x", None, 5, [3], [3, 2, 1], [0, 2], [3, 4], ["3", 2], [3.0, 2], [2, 2], [[3], 2]])
def test_keypoints_that_do_not_fit_are_refused(pose, tmp_path, shape):
    pose.model[-1].kpt_shape = shape
    with pytest.raises(CheckpointError, match="keypoint"):
        checkpoint.load(saved(pose, tmp_path / "odd.pt"))


def test_keypoints_that_fit_are_told(pose, tmp_path):
    assert checkpoint.load(saved(pose, tmp_path / "pose.pt"))[1].kpt_shape == (3, 2)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("task", 5, "is for the task 5"),
        ("task", "track", "is for the task 'track'"),
        ("task", "segment", "is for the task 'segment' and ends in a Detect"),
        ("args", 5, r"has 5 for its settings \(args\)"),
        ("args", [1], r"has \[1\] for its settings"),
        ("args", {1: 2}, "for its settings"),
        ("args", {"imgsz": "x"}, "was trained at the image size 'x'"),
        ("args", {"imgsz": -1}, "was trained at the image size -1"),
        ("args", {"imgsz": math.inf}, "was trained at the image size inf"),
        ("args", {"imgsz": [64, None]}, "was trained at the image size"),
        ("yaml", {"backbone": 5}, "describes its architecture in another form"),
        ("yaml", {"backbone": [5]}, "describes its architecture in another form"),
        ("yaml", {"backbone": [[1, 2]]}, "describes its architecture in another form"),
        ("yaml", {"yaml_file": 5}, "describes its architecture in another form"),
        ("slimdeploy_planned_latency", 5, "holds a plan of its latency"),
        ("slimdeploy_planned_latency", {"p50": math.nan}, "holds a plan of its latency"),
    ],
)
def test_other_fields_of_odd_kinds_are_refused(module, tmp_path, field, value, reason):
    setattr(module, field, value)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(saved(module, tmp_path / "odd.pt"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda m: setattr(m, "model", nn.Sequential()), "has no row of layers", id="no layers"),
        pytest.param(
            lambda m: setattr(m.model[-1], "cv3", nn.Identity()), "without a branch of scores", id="no scores"
        ),
        pytest.param(lambda m: setattr(m.model[-1], "cv3", None), "do not fit each other", id="no branch"),
        pytest.param(lambda m: setattr(m.model[3], "f", 99), "do not fit each other", id="an input that is not there"),
        pytest.param(lambda m: setattr(m.model[3], "f", "x"), "do not fit each other", id="a text for an input"),
        pytest.param(lambda m: setattr(m.model[1], "conv", m.model[0].conv), "do not fit each other", id="channels"),
        pytest.param(lambda m: m.model[1].__dict__.update(bn=5), "do not fit each other", id="a number as a layer"),
        pytest.param(lambda m: setattr(m.model[-1], "reg_max", 7), "do not fit each other", id="bins"),
        pytest.param(lambda m: setattr(m.model[10], "scale_factor", 10_000.0), "do not fit each other", id="enlarging"),
    ],
)
def test_layers_that_do_not_fit_each_other_are_refused(module, tmp_path, change, reason):
    change(module)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(saved(module, tmp_path / "odd.pt"))


@pytest.fixture(params=["NaN in a weight", "infinity in a statistic", "one channel", "an odd name count"])
def unsound(request, module, tmp_path):
    """A checkpoint that no verb can use, and why."""
    reason = r"has a weight in the layer model\.0\.conv that is not finite"
    if request.param == "NaN in a weight":
        module.model[0].conv.weight.data[0] = math.nan
    elif request.param == "infinity in a statistic":
        module.model[2].cv1.bn.running_var[1] = math.inf
        reason = r"has a running_var in the layer model\.2\.cv1\.bn that is not finite"
    elif request.param == "one channel":
        module = DetectionModel("yolov8n.yaml", ch=1, nc=2, verbose=False)
        module.names, module.task, module.args = {0: "square", 1: "bar"}, "detect", {"imgsz": 64}
        reason = "takes images of 1 channel;"
    else:
        module.names = {0: "square", 1: "bar", 2: "disc"}
        reason = "names 3 classes and its head scores 2"
    return saved(module, tmp_path / "unsound.pt"), reason


def test_every_verb_refuses_an_unsound_network_and_writes_nothing(unsound, tiny_weights, tiny_data, tmp_path, capfd):
    weights, reason = str(unsound[0]), unsound[1]
    data, size = ["--data", str(tiny_data)], ["--imgsz", "64"]
    asked = {
        "prune": ["prune", weights, "--macs", "0.3", *size],
        "prune with data": ["prune", weights, "--macs", "0.3", *size, *data],
        "export": ["export", weights, *size],
        "val": ["val", weights, *data, *size],
        "bench": ["bench", weights, *size],
        "sparsify": ["sparsify", weights, *data, *size, "--epochs", "1"],
        "finetune": ["finetune", weights, *data, *size, "--epochs", "1"],
        "finetune with it as a teacher": ["finetune", str(tiny_weights), "--teacher", weights, *data, *size],
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    for verb, arguments in asked.items():
        done = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "out")])
        error = done.exception
        assert isinstance(error, CheckpointError), (verb, done.output, error)
        assert json.dumps(error.as_json()["exit_code"]) == "2", verb
        with pytest.raises(CheckpointError, match=reason):
            raise error
        assert sorted(path.name for path in tmp_path.iterdir()) == before, verb


def test_scores_that_are_no_numbers_at_run_time_are_reported_by_bench(module, tmp_path):
    for layer in module.model[-1].cv2:
        layer[-1].weight.data.fill_(3e38)
    path = saved(module, tmp_path / "overflowing.pt")
    artifact = read_artifact(path, imgsz=(64, 64))
    outputs = backend_for(artifact).open(artifact).run({"images": torch.rand(1, 3, 64, 64).numpy()})
    assert not math.isfinite(float(next(iter(outputs.values())).sum()))
    done = CliRunner().invoke(app, ["bench", str(path), "--imgsz", "64", "--out", str(tmp_path / "out")])
    assert done.exit_code != 0
    assert "NaN or infinity" in str(done.exception)


def test_a_class_name_with_a_line_break_is_refused_by_export_alone(module, tmp_path):
    module.names = {0: "squ\nare", 1: "bar"}
    path = saved(module, tmp_path / "broken.pt")
    assert checkpoint.load(path)[1].classes == ("squ\nare", "bar")
    done = CliRunner().invoke(app, ["export", str(path), "--imgsz", "64", "--out", str(tmp_path / "out")])
    assert done.exception.exit_code == 2
    assert r"calls class 0 'squ\nare', which is no line of labels.txt" in str(done.exception)
    assert not Path(tmp_path / "out").exists()


def test_the_network_is_not_changed_by_the_check(tiny_weights):
    held = torch.load(tiny_weights, weights_only=False)["model"].float().eval()
    loaded = checkpoint.load(tiny_weights)[0]
    assert {t.device.type for t in loaded.state_dict().values()} == {"cpu"}
    assert vars(loaded.model[-1]).keys() == vars(held.model[-1]).keys()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(loaded)(image)[0], held(image)[0])

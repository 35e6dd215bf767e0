"""`slimdeploy prune` as a stage and as a verb: files in, one folder out."""

from __future__ import annotations

import json
import re

import pytest
import torch
from synthetic_coupling import Blocks, conv
from torch import nn
from typer.testing import CliRunner
from ultralytics.nn.tasks import DetectionModel

from slimdeploy.cli import app
from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import CheckpointError, DataError, GateError, OutputExists, UsageError
from slimdeploy.latency.shapes import to_measure
from slimdeploy.latency.table import LatencyTable, LayerTime, WholeTime, write_table
from slimdeploy.lineage import read_run, sha256_file
from slimdeploy.records import Measurement
from slimdeploy.stages import aim
from slimdeploy.stages._built import coupling_of
from slimdeploy.stages.decide import Means
from slimdeploy.stages.plan import config_of, make_plan, read_plan
from slimdeploy.stages.prune import prune
from slimdeploy.yolo import checkpoint, coupling, macs, prunable

SIDE = 64
HALF = PruneConfig(channels=0.5, imgsz=SIDE)
HEAD_OUTPUTS = tuple(f".{branch}.{i}.2" for branch in ("cv2", "cv3") for i in range(3))


@pytest.fixture(scope="module")
def halved(tiny_weights, tmp_path_factory):
    """The folder of `prune --channels 0.5`."""
    return prune(tiny_weights, HALF, tmp_path_factory.mktemp("pruned") / "half").parent


def outputs(weights):
    module, _ = checkpoint.load(weights)
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return module(images)[0]  # (1, 4 + nc, anchors)


def unaligned(module, alignment):
    """Return the convolutions whose width is no multiple of the alignment, but for the head's output layers."""
    return [
        path
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d)
        and layer.out_channels % alignment
        and not path.endswith((*HEAD_OUTPUTS, "dfl.conv"))
    ]


@pytest.mark.parametrize("scale", "nsmlx")
def test_half_of_the_channels_of_every_yolov8_makes_it_smaller_and_aligned(scale):
    module = DetectionModel(f"yolov8{scale}.yaml", verbose=False).eval()
    module.task = "detect"
    before = checkpoint.count_parameters(module), macs.count_macs(module, (SIDE, SIDE))
    prunable.split(module)
    coupled = coupling.couple(module, (SIDE, SIDE))
    plan = make_plan(coupled, coupling.scale_importance(module, coupled), HALF, weights_sha256="")
    coupling.cut(module, coupled, {group.name: group.kept for group in plan.groups})
    prunable.join(module)
    after = checkpoint.count_parameters(module), macs.count_macs(module, (SIDE, SIDE))
    assert (before[0], after[0]) == plan.parameters
    assert (before[1], after[1]) == plan.macs
    assert after[0] < 0.3 * before[0]
    assert after[1] < 0.3 * before[1]
    assert unaligned(module, 8) == []
    with torch.no_grad():
        assert module(torch.zeros(1, 3, SIDE, SIDE))[0].shape == (1, 84, 84)


def test_both_branches_of_the_head_are_narrowed(halved):
    module, _ = checkpoint.load(halved / "pruned.pt")
    head = module.model[-1]
    assert {branch[i].conv.out_channels for branch in head.cv2 for i in (0, 1)} == {32}
    assert {branch[i].conv.out_channels for branch in head.cv3 for i in (0, 1)} == {32}
    assert {branch[2].out_channels for branch in head.cv3} == {2}


def test_the_file_holds_what_the_plan_says(halved):
    plan = read_plan(halved / "plan.json")
    module, known = checkpoint.load(halved / "pruned.pt")
    assert known.parameters == plan.parameters[1]
    assert macs.count_macs(module, plan.imgsz) == plan.macs[1]
    assert known.pruned
    assert known.classes == ("square", "bar")
    assert unaligned(module, 8) == []


def test_the_run_record_says_what_was_asked_and_what_was_done(halved, tiny_weights):
    record = read_run(halved)
    assert record["inputs"]["weights"]["sha256"] == sha256_file(tiny_weights)
    assert record["results"]["asked"] == 0.5
    assert record["results"]["reached"] == pytest.approx(0.5, abs=0.02)
    assert record["results"]["groups"] == 59
    assert record["results"]["size_bytes"][1] < 0.4 * record["results"]["size_bytes"][0]


def test_a_budget_of_macs_is_reached_within_the_tolerance(tiny_weights, tmp_path):
    folder = prune(tiny_weights, PruneConfig(macs=0.6, imgsz=SIDE), tmp_path / "out").parent
    before = macs.count_macs(checkpoint.load(tiny_weights)[0], (SIDE, SIDE))
    after = macs.count_macs(checkpoint.load(folder / "pruned.pt")[0], (SIDE, SIDE))
    assert 1 - after / before == pytest.approx(0.6, abs=0.02)


def test_a_share_of_zero_changes_no_output_and_marks_nothing(tiny_weights, tmp_path):
    written = prune(tiny_weights, PruneConfig(channels=0.0, imgsz=SIDE), tmp_path / "out")
    assert torch.allclose(outputs(written), outputs(tiny_weights), atol=1e-5, rtol=0)
    assert not checkpoint.load(written)[1].pruned


def test_replaying_a_plan_gives_equal_outputs(halved, tiny_weights, tmp_path):
    plan = halved / "plan.json"
    again = prune(tiny_weights, config_of(read_plan(plan)), tmp_path / "again", means=Means(plan=plan))
    assert torch.equal(outputs(again), outputs(halved / "pruned.pt"))
    assert read_plan(again.parent / "plan.json") == read_plan(plan)


def test_a_plan_for_other_weights_is_refused_and_leaves_nothing(halved, tmp_path):
    with pytest.raises(UsageError, match="made for the weights"):
        prune(halved / "pruned.pt", HALF, tmp_path / "out", means=Means(plan=halved / "plan.json"))
    assert list(tmp_path.iterdir()) == []


def test_settings_other_than_those_of_the_plan_are_refused(halved, tiny_weights, tmp_path):
    with pytest.raises(UsageError, match="not those of the plan"):
        prune(tiny_weights, PruneConfig(macs=0.1), tmp_path / "out", means=Means(plan=halved / "plan.json"))


def test_a_pruned_network_can_be_pruned_again(halved, tmp_path):
    written = prune(halved / "pruned.pt", PruneConfig(channels=0.3, imgsz=SIDE), tmp_path / "out")
    assert checkpoint.load(written)[1].parameters < checkpoint.load(halved / "pruned.pt")[1].parameters
    assert checkpoint.load(written)[1].pruned
    assert outputs(written).shape == outputs(halved / "pruned.pt").shape


def test_channels_that_sparse_training_silenced_go_first(tiny_weights, tmp_path):
    module, _ = checkpoint.load(tiny_weights)
    silent = set(range(1, 256, 2))
    module.model[7].bn.weight.data[sorted(silent)] = 0.0
    checkpoint.save(module, tmp_path / "sparse.pt", origin={})
    folder = prune(tmp_path / "sparse.pt", PruneConfig(channels=0.3, imgsz=SIDE), tmp_path / "out").parent
    group = next(one for one in read_plan(folder / "plan.json").groups if one.name == "model.7")
    assert set(range(group.width)) - set(group.kept) <= silent


def test_a_share_out_of_reach_leaves_nothing_behind(tiny_weights, tmp_path):
    with pytest.raises(GateError, match="cannot be removed in multiples of 8"):
        prune(tiny_weights, PruneConfig(channels=0.99, imgsz=SIDE), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_left_alone(tiny_weights, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExists):
        prune(tiny_weights, HALF, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*gone\.pt"):
        prune(tmp_path / "gone.pt", HALF, tmp_path / "out")


def call(*arguments):
    return CliRunner().invoke(app, ["prune", *map(str, arguments)])


@pytest.fixture(scope="module")
def table(tiny_weights, tmp_path_factory):
    """A latency table of the tiny network, of a made-up machine."""
    network = coupling_of(checkpoint.load(tiny_weights)[0], SIDE)
    layers = {}
    for kind, widths in to_measure(network, 8).items():
        like = conv("any", 1, 1, kernel=kind.kernel**2, positions=kind.height * kind.width)
        times = [(i, o, Blocks(block=16).layer_ms(like, o, i)) for i, o in widths]
        layers[kind] = tuple(LayerTime(inputs=i, outputs=o, ms=ms, noise_ms=0.0, calls=1) for i, o, ms in times)
    made = LatencyTable(
        target="cpu", backend="onnxruntime", backend_version="1", precision="fp32", threads=1, imgsz=(SIDE, SIDE),
        alignment=8, network="tiny", layers=layers, environment={},
        wholes=(WholeTime(layers_ms=1.0, measured_ms=1.1, noise_ms=0.0),),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "table.json"
    write_table(made, path)
    return path


def test_a_dry_run_shows_the_plan_for_a_latency_and_writes_nothing(tiny_weights, table, tmp_path):
    result = call(tiny_weights, "--speedup", 2, "--target", "cpu", "--table", table, "--imgsz", SIDE, "--dry-run")
    assert "planned, not measured: 2.0" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith("model.22.cv3.0.1 ")]
    assert int(row[1]) == 64
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def few(tmp_path_factory):
    """A recipe by which sensitivities are measured on two images, which is quick."""
    path = tmp_path_factory.mktemp("few") / "recipe.toml"
    path.write_text("[prune]\nimages = 2\n", encoding="utf-8")
    return path


@pytest.fixture
def machine(monkeypatch):
    """A stand-in for the timing of artifacts: half a millisecond, and as much for every 20 million MACs."""

    def measure(artifacts, config, *, backend):
        assert backend == "onnxruntime"
        return [
            Measurement(
                artifact=name, sha256="", backend=backend, scope="inference", threads=1, batch=1,
                samples_s=((0.5 + artifact.macs / 4e7) / 1e3,) * 6, load_s=0.1, first_s=0.1, warmup_s=(),
                rounds=(1,) * 6, peak_memory_mib=None, environment={},
            )
            for name, artifact in artifacts
        ]  # fmt: skip

    monkeypatch.setattr(aim, "measure", measure)


DENSE_MS = 0.5 + 43.5e6 / 4e7  # of that machine at 64 px, about


@pytest.mark.parametrize(
    ("option", "asked", "wanted_ms"),
    [
        pytest.param("--latency-ms", 0.7 * DENSE_MS, 0.7 * DENSE_MS, id="milliseconds"),
        pytest.param("--fps", 1e3 / (0.6 * DENSE_MS), 0.6 * DENSE_MS, id="images a second"),
        pytest.param("--speedup", 1.5, DENSE_MS / 1.5, id="speed-up"),
    ],
)
def test_the_verb_cuts_until_the_artifact_is_as_quick_as_asked(
    tiny_weights, table, few, tmp_path, machine, option, asked, wanted_ms
):
    flags = ("--target", "cpu", "--table", table, "--config", few, "--imgsz", SIDE, "--out", tmp_path / "pruned")
    result = call(tiny_weights, option, asked, *flags)
    assert result.exit_code == 0, result.exception
    assert f"asked for {asked:g} " in result.stdout
    plan = read_plan(tmp_path / "pruned" / "plan.json")
    assert plan.latency.measured_ms[1] == pytest.approx(wanted_ms, rel=0.055)
    module, known = checkpoint.load(tmp_path / "pruned" / "pruned.pt")
    assert macs.count_macs(module, (SIDE, SIDE)) == pytest.approx(4e7 * (wanted_ms - 0.5), rel=0.15)
    assert known.planned_latency["measured_ms"] == plan.latency.measured_ms


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        pytest.param(9.0, UsageError, r"takes 1\.\d+ ms already, and 9\.00 ms are asked for", id="above dense"),
        pytest.param(0.4, GateError, r"0\.40 ms cannot be reached: .* the network takes 0\.\d+ ms", id="below all"),
    ],
)
def test_a_latency_that_cannot_be_says_what_can_and_writes_nothing(
    tiny_weights, table, few, tmp_path, machine, asked, error, says
):
    flags = ("--target", "cpu", "--table", table, "--config", few, "--imgsz", SIDE, "--out", tmp_path / "pruned")
    with pytest.raises(error, match=says):
        raise call(tiny_weights, "--latency-ms", asked, *flags).exception
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def fragile(tiny_weights, tmp_path_factory):
    """A network that finds something everywhere as long as most of its last hidden class channels stay."""
    module, _ = checkpoint.load(tiny_weights)
    for branch in module.model[-1].cv3:
        hidden, last = branch[1], branch[2]
        hidden.bn.bias.data[:] = 2.0
        hidden.bn.weight.data[:] = torch.linspace(0.001, 0.002, hidden.bn.num_features)
        last.weight.data[:] = 0.1
        last.bias.data[:] = -8.5  # all 64 channels, each 1.76, lift the logit to 2.8, half of them to -2.9
    path = tmp_path_factory.mktemp("fragile") / "fragile.pt"
    checkpoint.save(module, path, origin={})
    return path


def test_a_share_that_kills_all_positives_is_refused_where_data_is_given(fragile, tiny_data, tmp_path):
    flags = ("--imgsz", SIDE, "--data", tiny_data, "--reconstruct-images", 0, "--out", tmp_path / "out")
    error = call(fragile, "--channels", 0.5, *flags).exception
    assert isinstance(error, GateError)
    assert re.search(r"kills all positives: .* model\.22\.cv3\.\d\.1 \(64 to 32 channels\)", str(error))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_fitted_to_the_data_bring_the_positives_back(fragile, tiny_data, tmp_path):
    flags = ("--imgsz", SIDE, "--data", tiny_data, "--out", tmp_path / "out")
    result = call(fragile, "--channels", 0.5, *flags)
    plan = read_plan(tmp_path / "out" / "plan.json")
    assert plan.criterion == "reconstruction"
    before, after = plan.rebuilt.positives
    assert after > 0.5 * before
    assert f"it finds {plan.agreement.share:.0%} of what the whole network finds" in result.stdout
    fit = read_run(tmp_path / "out")["results"]["fit"]
    assert {"layer", "before", "after"} == set(fit["layers"][0])
    assert fit["images"] == len(read_dataset(tiny_data).images("train"))  # fewer than the 128 that it takes at most


def test_a_network_that_finds_too_little_of_what_the_whole_one_finds_is_refused(fragile, tiny_data, tmp_path):
    flags = ("--imgsz", SIDE, "--data", tiny_data, "--least-agreement", 1.0, "--out", tmp_path / "out")
    error = call(fragile, "--channels", 0.7, *flags).exception
    assert isinstance(error, GateError)
    assert re.search(r"finds \d+% of what the whole one finds \(of \d+ boxes \d+ are found again", str(error))
    assert re.search(r"these groups take most: model\.\d+", str(error))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_is_replayed_with_its_data_gives_the_same_fitted_network(tiny_weights, tiny_data, tmp_path):
    flags = ("--channels", 0.5, "--imgsz", SIDE, "--data", tiny_data, "--criterion", "bn_gamma")
    call(tiny_weights, *flags, "--out", tmp_path / "first")
    plan = tmp_path / "first" / "plan.json"
    call(tiny_weights, "--plan", plan, "--data", tiny_data, "--out", tmp_path / "again")
    assert torch.equal(outputs(tmp_path / "first" / "pruned.pt"), outputs(tmp_path / "again" / "pruned.pt"))
    first, again = read_plan(plan), read_plan(tmp_path / "again" / "plan.json")
    assert again.rebuilt == first.rebuilt is not None
    assert again.agreement == first.agreement


def test_a_plan_that_is_replayed_without_its_data_says_nothing_of_fitted_weights(tiny_weights, tiny_data, tmp_path):
    flags = ("--channels", 0.5, "--imgsz", SIDE, "--data", tiny_data, "--criterion", "bn_gamma")
    call(tiny_weights, *flags, "--out", tmp_path / "first")
    result = call(tiny_weights, "--plan", tmp_path / "first" / "plan.json", "--out", tmp_path / "again")
    again = read_plan(tmp_path / "again" / "plan.json")
    assert again.rebuilt is again.agreement is None
    assert "with fitted weights" not in result.stdout


def test_weights_are_never_fitted_to_the_images_that_are_scored(tiny_weights, tiny_data, tmp_path):
    data = tmp_path / "val.yaml"
    data.write_text(f"path: {tiny_data.parent}\nval: images/val\nnames: {{0: square, 1: bar}}\n", encoding="utf-8")
    error = call(tiny_weights, "--channels", 0.5, "--imgsz", SIDE, "--data", data, "--out", tmp_path / "out").exception
    assert isinstance(error, DataError)
    assert "no training images to fit weights on" in str(error)


def test_without_images_to_fit_to_the_weights_that_stay_are_those_that_were(tiny_weights, tiny_data, tmp_path):
    flags = ("--channels", 0.5, "--imgsz", SIDE, "--out")
    call(tiny_weights, *flags, tmp_path / "plain")
    call(tiny_weights, *flags, tmp_path / "tried", "--data", tiny_data, "--reconstruct-images", 0)
    call(tiny_weights, *flags, tmp_path / "fitted", "--data", tiny_data, "--criterion", "bn_gamma")
    plain, tried, fitted = (outputs(tmp_path / name / "pruned.pt") for name in ("plain", "tried", "fitted"))
    assert torch.equal(plain, tried)
    assert not torch.allclose(plain, fitted, atol=1e-3)
    assert "reconstruction" not in read_plan(tmp_path / "tried" / "plan.json").criterion


def test_the_criterion_reconstruction_needs_images(tiny_weights, tmp_path):
    error = call(
        tiny_weights, "--channels", 0.5, "--criterion", "reconstruction", "--imgsz", SIDE, "--out", tmp_path / "out"
    ).exception
    assert isinstance(error, UsageError)
    assert "add --data" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_a_share_that_leaves_detections_says_how_many(fragile, tiny_data, tmp_path):
    flags = ("--imgsz", SIDE, "--data", tiny_data, "--criterion", "bn_gamma", "--out", tmp_path / "out")
    result = call(fragile, "--channels", 0.1, *flags)
    agreement = read_plan(tmp_path / "out" / "plan.json").agreement
    assert agreement.share > 0.5
    assert f"of {agreement.dense} boxes {agreement.matched} are found again" in result.stdout


def test_a_share_without_data_says_that_nothing_was_checked(fragile, tmp_path):
    result = call(fragile, "--channels", 0.5, "--imgsz", SIDE, "--out", tmp_path / "out")
    assert "was not checked: --data names images to try the plan on" in result.stdout
    assert read_plan(tmp_path / "out" / "plan.json").whole is None


def test_without_a_place_for_the_result_a_wet_run_is_refused(tiny_weights):
    assert "--out with a folder to make" in str(call(tiny_weights, "--channels", 0.5).exception)


def test_a_plan_for_a_board_that_is_not_at_hand_says_so_as_far_as_the_checkpoint(tiny_weights, tmp_path):
    board = ("--target", "orin-nx-16gb", "--imgsz", SIDE)
    result = call(tiny_weights, "--speedup", 1.02, *board, "--out", tmp_path / "pruned")
    assert "estimated, not measured: 1.0" in result.stdout
    assert read_plan(tmp_path / "pruned" / "plan.json").latency.estimated
    planned = checkpoint.load(tmp_path / "pruned" / "pruned.pt")[1].planned_latency
    assert planned["target"] == "orin-nx-16gb"
    assert planned["measured_ms"] is None
    assert planned["estimated"] is True


def test_the_verb_prints_a_table_that_a_person_can_read(tiny_weights, tmp_path):
    result = call(tiny_weights, "--channels", 0.5, "--imgsz", SIDE, "--out", tmp_path / "out")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["before", "after", "removed"] in lines
    assert "asked for 50.0% of the channels, reached 50.0%" in result.stdout
    assert "of 59 groups of coupled channels narrowed, to multiples of 8" in result.stdout
    assert "model.22.cv3.0.2 (2)" in result.stdout


def test_the_verb_prints_one_json_object_and_nothing_else(tiny_weights, tmp_path):
    result = call(tiny_weights, "--macs", 0.5, "--imgsz", SIDE, "--json", "--out", tmp_path / "out")
    shown = json.loads(result.stdout)
    assert shown["groups"] == 59
    assert shown["macs"][1] < 0.53 * shown["macs"][0]


def test_a_target_gives_the_alignment_of_fp16(tiny_weights, tmp_path):
    call(tiny_weights, "--channels", 0.5, "--target", "orin-nx-16gb", "--out", tmp_path / "out")
    assert read_plan(tmp_path / "out" / "plan.json").alignment == 8


def test_int8_on_tensor_cores_asks_for_wider_steps(tiny_weights, tmp_path):
    target = ("--target", "orin-nx-16gb", "--precision", "int8")
    call(tiny_weights, "--channels", 0.5, *target, "--out", tmp_path / "out")
    plan = read_plan(tmp_path / "out" / "plan.json")
    assert plan.alignment == 32
    module, _ = checkpoint.load(tmp_path / "out" / "pruned.pt")
    narrow = {one.layer for one in plan.kept_whole if one.width < 32}
    assert {path.removesuffix(".conv") for path in unaligned(module, 32)} <= narrow


def test_the_verb_replays_a_plan(halved, tiny_weights, tmp_path):
    result = call(tiny_weights, "--plan", halved / "plan.json", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert read_plan(tmp_path / "out" / "plan.json") == read_plan(halved / "plan.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "no budget", id="no budget"),
        pytest.param(["--channels", "0.5", "--macs", "0.5"], "two budgets", id="both budgets"),
        pytest.param(["--speedup", "2", "--fps", "30"], "two budgets", id="two figures"),
        pytest.param(["--speedup", "2"], "a speedup without a target", id="a figure without a target"),
        pytest.param(["--speedup", "0", "--target", "cpu"], "a speedup of 0", id="no speed at all"),
        pytest.param(["--fps", "30", "--target", "cpu"], "slimdeploy latency WEIGHTS", id="no table and no model"),
        pytest.param(["--fps", "30", "--target", "tx2"], "no measurement of Jetson TX2", id="a board without a model"),
        pytest.param(["--fps", "9", "--target", "cpu", "--table", "t.json"], "no latency table at", id="no such table"),
        pytest.param(["--channels", "0.5", "--criterion", "luck"], "a criterion 'luck'", id="an unknown criterion"),
        pytest.param(["--channels", "1.0"], "a share of 1.0", id="all of it"),
        pytest.param(["--macs", "-0.1"], "a share of -0.1", id="a negative share"),
        pytest.param(["--channels", "nan"], "channels is nan", id="no number"),
        pytest.param(["--channels", "0.5", "--target", "toaster"], "no target 'toaster'", id="an unknown target"),
        pytest.param(["--plan", "p.json", "--channels", "0.5"], "--plan together", id="a plan and a budget"),
        pytest.param(["--plan", "gone.json"], "no prune plan at gone.json", id="a missing plan"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_one_line(tiny_weights, tmp_path, arguments, message):
    result = call(tiny_weights, *arguments, "--out", tmp_path / "out")
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()

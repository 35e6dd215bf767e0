"""A checkpoint becomes a checked ONNX file in a bundle, at both precisions, dense and pruned."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from agent_process import run_agent

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bundle import verify
from slimdeploy.cli import main
from slimdeploy.cli.export import parse_imgsz
from slimdeploy.configs import ExportConfig, PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import CheckpointError, DataError, GateError, OutputExists, UsageError
from slimdeploy.lineage import sha256_file
from slimdeploy.stages import _float16, _parity
from slimdeploy.stages.export import export, require_precision
from slimdeploy.stages.prune import prune
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint, onnx_export, training
from slimdeploy.yolo.macs import count_macs

SIZE = (64, 96)
CONFIG = ExportConfig(imgsz=SIZE)
ANCHORS = 8 * 12 + 4 * 6 + 2 * 3


@pytest.fixture(scope="module")
def fp32(tiny_weights, tiny_data, tmp_path_factory):
    return export(tiny_weights, load_target("cpu"), CONFIG, tmp_path_factory.mktemp("fp32") / "b", data=tiny_data)


@pytest.fixture(scope="module")
def fp16(tiny_weights, tmp_path_factory):
    config = dataclasses.replace(CONFIG, precision="fp16")
    return export(tiny_weights, load_target("jetson"), config, tmp_path_factory.mktemp("fp16") / "b")


@pytest.fixture(scope="module")
def network(tiny_weights):
    return checkpoint.load(tiny_weights)[0]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).random((1, 3, *SIZE), dtype=np.float32)


def manifest_of(bundle):
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))


def output_of(path, images, backend=""):
    artifact = read_artifact(path)
    session = backend_for(artifact, backend).open(artifact, threads=1)
    output = session.run({"images": images})["output0"]
    session.close()
    return output


def test_a_bundle_is_whole_and_its_record_names_what_it_was_made_from(fp32):
    verify(fp32)
    own = {"model.fp32.onnx", "manifest.json", "labels.txt", "LICENSE", "run.json", "agent.pyz", "golden", "ansible"}
    own |= {"lineage.json"}
    assert {p.name for p in fp32.iterdir()} == own
    record = json.loads((fp32 / "run.json").read_text(encoding="utf-8"))
    assert set(record["inputs"]) == {"weights", "target", "data"}
    assert record["results"]["check"]["images"] == 8


def test_the_same_inputs_give_a_bundle_of_the_same_bytes(fp32, tiny_weights, tiny_data, tmp_path):
    again = export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "again", data=tiny_data)
    assert (again / "manifest.json").read_bytes() == (fp32 / "manifest.json").read_bytes()  # which hashes all the rest


def test_a_bundle_tells_how_it_and_its_weights_were_made_and_names_no_place(tiny_weights, tmp_path):
    pruned = prune(tiny_weights, PruneConfig(channels=0.5, imgsz=64), tmp_path / "pruned")
    bundle = export(pruned, load_target("cpu"), CONFIG, tmp_path / "bundle")
    text = (bundle / "lineage.json").read_text(encoding="utf-8")
    told = json.loads(text)
    assert (told["stage"], told["config"]["imgsz"]) == ("export", list(SIZE))
    assert told["inputs"]["weights"] == {"name": "pruned.pt", "sha256": sha256_file(pruned)}
    assert (told["weights"]["stage"], told["weights"]["config"]["channels"]) == ("prune", 0.5)
    assert str(tmp_path) not in text
    assert "lineage.json" in manifest_of(bundle)["files"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bundle_passes_the_check_of_its_own_agent(fp32, fp16, precision):
    ended = run_agent({"fp32": fp32, "fp16": fp16}[precision], "check")
    assert (ended.code, ended.told.get("missing")) == (0, 0), ended.err
    assert ended.told["expected"] > 0


def test_an_fp32_graph_gives_what_the_network_gives(fp32, network, images):
    found, expected = output_of(fp32 / "model.fp32.onnx", images), onnx_export.run(network, images)["output0"]
    assert found.shape == (1, 4 + 2, ANCHORS)
    assert np.abs(found - expected).max() < 1e-2  # pixels, of boxes up to 96 wide
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 1e-5


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_fp16_graph_runs_everywhere_and_gives_nearly_the_same(fp16, network, images, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    found = output_of(fp16 / "model.fp16.onnx", images, backend)
    expected = onnx_export.run(network, images)["output0"]
    assert found.dtype == np.float32
    assert np.abs(found[:, :4] - expected[:, :4]).max() < 1.0
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 0.02


def test_an_fp16_graph_holds_half_the_bytes_and_says_what_stays_float32(fp32, fp16):
    half, full = (folder / f"model.{folder.parent.name[:4]}.onnx" for folder in (fp16, fp32))
    assert half.stat().st_size < 0.55 * full.stat().st_size
    nodes = manifest_of(fp16)["model"]["float_nodes"]
    assert {one["why"] for one in nodes} == {_float16.DECODING}
    assert any("Softmax" in one["node"] for one in nodes)
    assert manifest_of(fp32)["model"]["float_nodes"] == []


@pytest.mark.parametrize(("precision", "opset"), [("fp32", 17), ("fp16", 13)])
def test_the_file_has_the_opset_that_the_target_reads(fp32, fp16, precision, opset):
    bundle = {"fp32": fp32, "fp16": fp16}[precision]
    model = onnx.load(bundle / f"model.{precision}.onnx")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert (manifest_of(bundle)["model"]["opset"], manifest_of(bundle)["model"]["ir_version"]) == (
        opset,
        model.ir_version,
    )
    onnx.checker.check_model(model, full_check=True)


def test_a_graph_holds_no_nms_no_batchnorm_and_no_dynamic_shape(fp32):
    model = onnx.load(fp32 / "model.fp32.onnx")
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"NonMaxSuppression", "TopK", "BatchNormalization", "Shape", "Gather", "Constant"}
    shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert shape == manifest_of(fp32)["output"]["shape"] == [1, 6, ANCHORS]


def test_both_forms_of_a_network_need_the_same_arithmetic(fp32, network, tiny_weights):
    artifact = read_artifact(fp32 / "model.fp32.onnx")
    assert artifact.macs == count_macs(network, SIZE) == read_artifact(tiny_weights, imgsz=SIZE).macs
    folded = [p.numpy() for p in onnx_export.raw_head(network).parameters()]
    stored_once = {(p.shape, p.tobytes()): p.size for p in folded}  # new weights hold equal biases
    assert artifact.parameters == sum(stored_once.values())


def test_ultralytics_opens_the_exported_file(fp32, fp16):
    from ultralytics import YOLO

    image = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
    for path in (fp32 / "model.fp32.onnx", fp16 / "model.fp16.onnx"):
        model = YOLO(str(path), task="detect")
        (result,) = model.predict(image, imgsz=SIZE, conf=0.0001, verbose=False, device="cpu")
        assert result.names == {0: "square", 1: "bar"}
        assert result.boxes.xyxy.shape[0] > 0


def test_the_callers_network_is_not_changed(tiny_weights):
    module, _ = checkpoint.load(tiny_weights)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    onnx_export.raw_head(module)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert module.model[-1].export is False
    assert isinstance(module(torch.zeros(1, 3, 64, 64)), tuple)


def test_the_same_weights_give_the_same_file(fp32, tiny_weights, tmp_path):
    again = export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "again")
    assert (again / "model.fp32.onnx").read_bytes() == (fp32 / "model.fp32.onnx").read_bytes()


def test_a_pruned_network_is_exported_in_its_shape(fp32, tiny_weights, tmp_path):
    pruned = prune(tiny_weights, PruneConfig(channels=0.5, imgsz=64), tmp_path / "pruned")
    bundle = export(pruned, load_target("cpu"), CONFIG, tmp_path / "bundle")
    small, dense = manifest_of(bundle)["model"], manifest_of(fp32)["model"]
    assert small["pruned"] is True
    assert small["parameters"] < 0.5 * dense["parameters"]
    operators = [node.op_type for node in onnx.load(bundle / "model.fp32.onnx").graph.node]
    assert operators.count("Split") == 8  # one for each C2f, cut where its halves now meet
    assert manifest_of(bundle)["check"]["box_shift_px"] < 0.01


def test_a_batch_of_several_images_is_exported_and_checked(tiny_weights, tmp_path):
    config = dataclasses.replace(CONFIG, batch=3)
    bundle = export(tiny_weights, load_target("cpu"), config, tmp_path / "bundle")
    assert manifest_of(bundle)["input"]["shape"] == [3, 3, *SIZE]
    assert manifest_of(bundle)["check"]["images"] == 8


@pytest.mark.skipif("SLIMDEPLOY_DATA" not in os.environ, reason="SLIMDEPLOY_DATA names no folder of real data")
def test_real_photographs_are_compared(tmp_path):
    data = Path(os.environ["SLIMDEPLOY_DATA"]) / "aerial_cars" / "data.yaml"
    config = ExportConfig(imgsz=(320, 320))
    photographs, _ = _parity.check_inputs(read_dataset(data, check_labels=False), config)
    module = training.new_network("yolov8n.yaml", ("vehicle",), seed=0)
    take_statistics(module, torch.from_numpy(np.stack(photographs)))
    checkpoint.save(module, tmp_path / "dense.pt", origin={})
    bundle = export(tmp_path / "dense.pt", load_target("jetson"), config, tmp_path / "bundle", data=data)
    check = manifest_of(bundle)["check"]
    assert (check["images"], check["source"]) == (8, "images of aerial_cars, val")
    assert 0 < check["box_shift_px"] < 0.1


def take_statistics(module, images):
    """Give every BatchNorm the statistics of these images, so that signals reach the head of a new network."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        module.train()(images)
    module.eval()


def test_a_graph_that_differs_is_not_written(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "run", lambda module, images: {"output0": np.zeros((1, 6, ANCHORS), np.float32)})
    with pytest.raises(GateError, match="moves boxes by up to"):
        export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_before_any_work(tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(OutputExists):
        export(tmp_path / "missing.pt", load_target("cpu"), CONFIG, tmp_path / "bundle")


@pytest.mark.parametrize(("name", "error"), [("missing.pt", "no checkpoint"), ("model.onnx", "is no .pt file")])
def test_weights_that_are_no_checkpoint_are_refused(tmp_path, name, error):
    if name == "model.onnx":
        (tmp_path / name).write_bytes(b"\x08\x08")
    with pytest.raises(CheckpointError, match=error):
        export(tmp_path / name, load_target("cpu"), CONFIG, tmp_path / "bundle")


def test_a_data_set_of_other_classes_is_refused(tiny_weights, tiny_data, tmp_path):
    other = tiny_data.with_name("other.yaml")
    other.write_text("train: images/train\nval: images/val\nnames: {0: dog, 1: cat}\n", encoding="utf-8")
    with pytest.raises(DataError, match="has other classes than the network"):
        export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "bundle", data=other)


def test_a_precision_that_the_target_gains_nothing_from_is_refused_with_those_it_has():
    target = dataclasses.replace(load_target("nano"), precisions=("int8",))
    with pytest.raises(UsageError, match=r"wanted: one of fp32, int8"):
        require_precision(target, "fp16")
    require_precision(target, "fp32")


@pytest.mark.parametrize(
    ("yaml", "head"), [("yolov10n.yaml", "v10Detect"), ("yolo26n-sem.yaml", "SemanticSegment")], ids=["v10", "semantic"]
)
def test_a_network_with_another_head_is_refused(yaml, head):
    from ultralytics import YOLO

    module = YOLO(yaml).model
    with pytest.raises(UsageError, match=rf"with {head} as its head; wanted: YOLOv8, YOLO11 or YOLO26"):
        onnx_export.raw_head(module)


@pytest.mark.parametrize(("text", "size"), [("640", (640, 640)), ("384x640", (384, 640)), (None, None)])
def test_an_input_size_is_one_side_or_height_x_width(text, size):
    assert parse_imgsz(text) == size


@pytest.mark.parametrize("text", ["", "big", "640x", "640x640x3", "-32", "6e2"])
def test_an_input_size_in_another_form_is_refused(text):
    with pytest.raises(UsageError, match="an input size of"):
        parse_imgsz(text)


def invoke(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["slimdeploy", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


def test_an_export_for_a_jetson_ends_with_the_boards_command(tiny_weights, tmp_path, monkeypatch, capsys):
    code, printed = invoke(
        monkeypatch, capsys, "export", tiny_weights, "--target", "jetson", "--imgsz", "64", "--out", tmp_path / "bundle"
    )
    assert code == 0
    lines = printed.out.strip().splitlines()
    assert lines[-1].endswith("/usr/src/tensorrt/bin/trtexec --onnx=bundle/model.fp32.onnx --saveEngine=model.engine")
    assert "opset 13, input 1x3x64x64" in printed.out
    assert "not run on a board yet" in printed.out


def test_json_gives_one_object_on_stdout_with_the_check(tiny_weights, tmp_path, monkeypatch, capsys):
    code, printed = invoke(
        monkeypatch, capsys, "export", tiny_weights, "--imgsz", "64", "--json", "--out", tmp_path / "bundle"
    )
    assert code == 0
    result = json.loads(printed.out)
    assert result["check"]["source"] == "rendered scenes, seed 0"
    assert result["model"]["file"] == "model.fp32.onnx"


def test_limits_that_the_board_shall_hold_are_in_the_manifest(tiny_weights, tmp_path, monkeypatch, capsys):
    limits = ("--max-p90-ms", "0.0001", "--max-power-mw", "15000")
    code, printed = invoke(
        monkeypatch, capsys, "export", tiny_weights, "--imgsz", "64", *limits, "--out", tmp_path / "bundle"
    )
    assert (code, "p90 0.0001 ms, power 15000 mW" in printed.out) == (0, True), printed.err
    assert manifest_of(tmp_path / "bundle")["limits"] == {"p90_ms": 0.0001, "power_mw": 15000}


def test_a_bundle_without_limits_names_none(fp32):
    assert "limits" not in manifest_of(fp32)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param(("--target", "orin-nano"), "no target 'orin-nano'", id="unknown target"),
        pytest.param(("--imgsz", "100"), "multiple of 32", id="size between strides"),
        pytest.param(("--precision", "int4"), "fp32, fp16 or int8", id="unknown precision"),
        pytest.param(("--precision", "int8"), "name their YAML with --data", id="int8 without data"),
        pytest.param(("--precision", "int8", "--target", "nano"), "nano does not gain from int8", id="int8 on a Nano"),
        pytest.param(("--opset", "18", "--target", "orin-nx-16gb"), "17 or less", id="opset above the target's"),
        pytest.param(
            ("--max-drop", "0.5"), "--max-drop with fp32; wanted: --precision int8", id="a bound without int8"
        ),
        pytest.param(("--calibrator", "mse"), "--calibrator with fp32", id="a calibrator without int8"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(tiny_weights, tmp_path, monkeypatch, capsys, flags, says):
    code, printed = invoke(monkeypatch, capsys, "export", tiny_weights, *flags, "--out", tmp_path / "bundle")
    assert code == 2
    assert says in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not (tmp_path / "bundle").exists()

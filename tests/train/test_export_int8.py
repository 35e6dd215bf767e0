"""An int8 export: calibrated on training images, with a float graph beside it, in a form for every TensorRT."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bundle import verify
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import DataError
from slimdeploy.stages.export import export
from slimdeploy.targets import load_target

CONFIG = ExportConfig(precision="int8", imgsz=(64, 96), calibration_images=8, check_images=2)


@pytest.fixture(scope="module")
def for_cpu(tiny_weights, tiny_data, tmp_path_factory):
    return export(tiny_weights, load_target("cpu"), CONFIG, tmp_path_factory.mktemp("cpu") / "b", data=tiny_data)


@pytest.fixture(scope="module")
def for_orin(tiny_weights, tiny_data, tmp_path_factory):
    target = load_target("orin-nx-16gb")
    return export(tiny_weights, target, CONFIG, tmp_path_factory.mktemp("orin") / "b", data=tiny_data)


def manifest_of(bundle):
    return json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))


def output_of(path, images, backend=""):
    artifact = read_artifact(path)
    session = backend_for(artifact, backend).open(artifact, threads=1)
    output = session.run({"images": images})["output0"]
    session.close()
    return output


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).random((1, 3, 64, 96), dtype=np.float32)


def test_the_bundle_is_whole_and_holds_both_graphs_and_the_calibration(for_cpu):
    verify(for_cpu)
    names = {path.name for path in for_cpu.iterdir()}
    assert {"model.int8.onnx", "model.fp32.onnx", "calibration.json"} < names
    assert [graph["file"] for graph in manifest_of(for_cpu)["graphs"]] == ["model.int8.onnx", "model.fp32.onnx"]
    assert manifest_of(for_cpu)["model"]["precision"] == "int8"


def test_the_calibration_is_on_record_with_a_hash_for_each_image(for_cpu):
    calibration = manifest_of(for_cpu)["calibration"]
    assert (calibration["split"], calibration["images"], calibration["calibrator"]) == ("train", 8, "percentile")
    assert calibration["classes"] == {"square": 4, "bar": 4}
    kept = json.loads((for_cpu / "calibration.json").read_text(encoding="utf-8"))
    assert len(kept["hashes"]) == 8
    assert all(limit > 0 for limit in kept["limits"].values())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("file", ["model.int8.onnx", "model.int8-fp16.onnx", "model.fp16.onnx"])
def test_every_graph_runs_on_both_runtimes_and_comes_near_the_float32_one(for_cpu, for_orin, images, file, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    found, expected = output_of(for_orin / file, images, backend), output_of(for_cpu / "model.fp32.onnx", images)
    assert found.dtype == np.float32
    assert np.abs(found[:, 4:] - expected[:, 4:]).max() < 0.1
    assert np.abs(found[:, :4] - expected[:, :4]).mean() < 1.0


def test_stored_int8_weights_take_a_quarter_of_the_bytes(for_cpu, for_orin):
    sizes = {path.name: path.stat().st_size for path in [*for_cpu.glob("*.onnx"), *for_orin.glob("*-fp16.onnx")]}
    assert sizes["model.int8.onnx"] < 0.3 * sizes["model.fp32.onnx"]
    assert sizes["model.int8-fp16.onnx"] < 0.3 * sizes["model.fp32.onnx"]


def test_an_int8_graph_counts_the_same_weights_and_arithmetic_as_a_float_one(for_cpu):
    int8, fp32 = (read_artifact(for_cpu / f"model.{one}.onnx") for one in ("int8", "fp32"))
    assert (int8.precision, fp32.precision) == ("int8", "fp32")
    assert int8.macs == fp32.macs
    assert int8.parameters == pytest.approx(fp32.parameters, rel=0.01)


def test_the_typed_graph_has_float16_scales_and_float32_ends_at_opset_19(for_orin):
    model = onnx.load(for_orin / "model.int8-fp16.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 19
    types = {i.name: i.data_type for i in model.graph.initializer}
    scales = {types[n.input[1]] for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert scales == {onnx.TensorProto.FLOAT16}
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}


def test_both_int8_graphs_of_a_board_say_how_they_are_built(for_orin):
    builds = {graph["file"]: graph["build"] for graph in manifest_of(for_orin)["graphs"]}
    assert builds["model.int8.onnx"].endswith("--int8 --fp16")
    assert builds["model.int8-fp16.onnx"].endswith("--stronglyTyped")


def test_without_training_images_there_is_no_int8_and_no_folder(tiny_weights, tiny_data, tmp_path):
    only_val = tiny_data.with_name("only-val.yaml")
    only_val.write_text("val: images/val\nnames: {0: square, 1: bar}\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no split 'train'"):
        export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "bundle", data=only_val)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(None, "the train split holds no images", id="an empty calibration set"),
        pytest.param(b"", r"0\.png is empty", id="an image without bytes"),
        pytest.param(b"\x89PNG cut off", r"0\.png is no image", id="an image that does not decode"),
    ],
)
def test_a_calibration_set_that_cannot_be_read_leaves_no_bundle(tiny_weights, tiny_data, tmp_path, content, says):
    folder = tmp_path / "data"
    shutil.copytree(tiny_data.parent, folder)
    for image in (folder / "images" / "train").iterdir():
        image.unlink()
    if content is not None:
        (folder / "images" / "train" / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=says):
        export(tiny_weights, load_target("cpu"), CONFIG, tmp_path / "out" / "bundle", data=folder / "data.yaml")
    assert list((tmp_path / "out").glob("*")) == []  # of a folder that is not there, too


def test_the_graph_to_run_is_chosen_by_a_measurement_on_this_cpu(for_cpu):
    told = manifest_of(for_cpu)["recommendation"]
    assert told["measured"] is True
    assert set(told["p50_ms"]) == {"model.int8.onnx", "model.fp32.onnx"}
    assert told["file"] in told["p50_ms"]
    assert "times the time of model.fp32.onnx" in told["why"]


def test_for_a_board_nothing_is_recommended_before_it_is_measured_there(for_orin):
    assert manifest_of(for_orin)["recommendation"] == {
        "measured": False,
        "why": "not measured yet: bench on the board",
    }

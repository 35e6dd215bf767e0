"""What a bundle brings for other pipelines is read by each one's own grammar, fits the graph, and the graph runs."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from google.protobuf import text_format

from slimdeploy.bundle import verify
from slimdeploy.bundle.dropin import Model
from slimdeploy.bundle.dropins import DROPINS, parse, require_possible
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.stages.export import export
from slimdeploy.targets import load_target
from slimdeploy.yolo import checkpoint, training

ALL = tuple(DROPINS)


@pytest.fixture(scope="module")
def bundle(tiny_weights, tmp_path_factory):
    config = ExportConfig(imgsz=(64, 96), precision="fp16", check_images=1, dropins=("deepstream", "triton"))
    return export(tiny_weights, load_target("jetson"), config, tmp_path_factory.mktemp("with") / "bundle")


@pytest.fixture(scope="module")
def dynamic(tiny_weights, tmp_path_factory):
    config = ExportConfig(imgsz=(64, 64), batch=4, dynamic_batch=True, check_images=3, dropins=("deepstream", "triton"))
    return export(tiny_weights, load_target("jetson"), config, tmp_path_factory.mktemp("dynamic") / "bundle")


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def images(batch=1, size=(64, 96)):
    return np.random.default_rng(batch).random((batch, 3, *size), dtype=np.float32)


def test_every_file_of_a_drop_in_is_part_of_the_bundle(bundle):
    names = verify(bundle)["files"]
    assert {"deepstream/config_infer_primary.txt", "deepstream/labels.txt", "deepstream/model.ds.onnx"} <= set(names)
    assert {"triton/dense/config.pbtxt", "triton/dense/labels.txt", "triton/dense/1/model.onnx"} <= set(names)
    (bundle / "triton" / "dense" / "labels.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(Exception, match=r"altered triton/dense/labels\.txt"):
        verify(bundle)


def key_file(folder):
    """nvinfer reads GLib key files; a duplicate key or a row outside a group is an error there and here."""
    parser = configparser.ConfigParser(delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.optionxform = str
    parser.read_string((folder / "config_infer_primary.txt").read_text(encoding="utf-8"))
    return parser


def test_nvinfers_configuration_names_files_that_are_there_and_the_graphs_own_figures(bundle):
    folder = bundle / "deepstream"
    settings = key_file(folder)["property"]
    graph = onnx.load(folder / settings["onnx-file"]).graph
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert settings["infer-dims"] == ";".join(str(side) for side in shape[1:])
    assert int(settings["batch-size"]) == shape[0]
    labels = (folder / settings["labelfile-path"]).read_text(encoding="utf-8").splitlines()
    assert int(settings["num-detected-classes"]) == len(labels) == 2
    assert settings["network-mode"] == "2"  # fp16
    assert settings["model-engine-file"] == "model.ds.onnx_b1_gpu0_fp16.engine"
    assert float(settings["net-scale-factor"]) == pytest.approx(1 / 255)


def test_deepstreams_graph_gives_a_row_a_box_with_corners_best_score_and_class(bundle):
    raw = session_of(bundle / "model.fp16.onnx").run(None, {"images": images()})[0][0]  # (4 + classes, anchors)
    (rows,) = session_of(bundle / "deepstream" / "model.ds.onnx").run(["output"], {"input": images()})
    assert rows.shape == (1, raw.shape[1], 6)
    half = raw[2:4] / 2
    assert np.allclose(rows[0, :, :4].T, np.concatenate([raw[:2] - half, raw[:2] + half]), atol=1e-3)
    assert np.allclose(rows[0, :, 4], raw[4:].max(axis=0))
    assert np.array_equal(rows[0, :, 5], raw[4:].argmax(axis=0))


def triton_schema():
    """Triton's own protobuf schema, from its client's package; loaded alone, since the package wants grpc."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None
    path = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def triton_pb2():
    return triton_schema()


@pytest.mark.parametrize("form", ["bundle", "dynamic"])
def test_tritons_configuration_is_read_by_its_schema_and_fits_the_graph(form, request, triton_pb2):
    repository = request.getfixturevalue(form) / "triton" / "dense"
    text = (repository / "config.pbtxt").read_text(encoding="utf-8")
    config = text_format.Parse(text, triton_pb2.ModelConfig())
    assert (config.name, config.platform) == (repository.name, "onnxruntime_onnx")
    session = session_of(repository / "1" / "model.onnx")
    for told, known in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [one.name for one in told] == [one.name for one in known]
        shape = known[0].shape if config.max_batch_size == 0 else known[0].shape[1:]
        assert list(told[0].dims) == shape
    assert config.max_batch_size == (0 if form == "bundle" else 4)
    assert (repository / config.output[0].label_filename).is_file()


@pytest.mark.parametrize(("kind", "anchors"), [("yolov8n-p2", 1360), ("yolov8n-p6", 340), ("yolo26n", 336)])
def test_the_boxes_told_to_triton_are_those_of_a_head_with_more_or_other_maps(kind, anchors, tmp_path, triton_pb2):
    module = training.new_network(f"{kind}.yaml", ("car", "van"), seed=0)
    checkpoint.save(module, tmp_path / "net.pt", origin={})
    config = ExportConfig(imgsz=(128, 128), check_images=1, dropins=("triton", "deepstream"))
    bundle = export(tmp_path / "net.pt", load_target("jetson"), config, tmp_path / "bundle")
    text = (bundle / "triton" / "net" / "config.pbtxt").read_text(encoding="utf-8")
    assert list(text_format.Parse(text, triton_pb2.ModelConfig()).output[0].dims) == [1, 6, anchors]
    assert session_of(bundle / "model.fp32.onnx").get_outputs()[0].shape == [1, 6, anchors]
    assert session_of(bundle / "deepstream" / "model.ds.onnx").get_outputs()[0].shape == [1, anchors, 6]


def test_a_misspelt_field_is_what_the_schema_refuses(bundle, triton_pb2):
    text = (bundle / "triton" / "dense" / "config.pbtxt").read_text(encoding="utf-8")
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("max_batch_size", "max_batchsize"), triton_pb2.ModelConfig())


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_dynamic_graph_takes_any_number_of_images_and_gives_each_its_own_boxes(dynamic, batch):
    size = (64, 64)
    session, several = session_of(dynamic / "model.fp32.onnx"), images(batch, size)
    together = session.run(None, {"images": several})[0]
    alone = [session.run(None, {"images": one[None]})[0][0] for one in several]
    assert together.shape[0] == batch
    assert np.allclose(together, np.stack(alone), atol=1e-3)
    (rows,) = session_of(dynamic / "deepstream" / "model.ds.onnx").run(None, {"input": several})
    assert rows.shape[0] == batch


def test_a_dynamic_bundle_says_so_and_is_built_for_up_to_its_batch(dynamic):
    manifest = json.loads((dynamic / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["input"]["shape"], manifest["input"]["dynamic_batch"]) == ([4, 3, 64, 64], True)
    assert "--minShapes=images:1x3x64x64" in manifest["board"]["build"]
    assert manifest["model"]["macs"] > 0


def model(**changed):
    known = {
        "path": Path("model.fp16.onnx"), "name": "tuned", "task": "detect", "classes": ("car", "van"),
        "imgsz": (640, 640), "strides": (8, 16, 32), "batch": 1, "dynamic_batch": False, "precision": "fp16",
    }  # fmt: skip
    return Model(**(known | changed))


def test_the_files_for_ros_2_parse_and_tell_names_and_classes(tmp_path):
    DROPINS["ros2"].write(model(), tmp_path)
    ast.parse((tmp_path / "yolov8.launch.py").read_text(encoding="utf-8"))
    found = yaml.safe_load((tmp_path / "yolov8.yaml").read_text(encoding="utf-8"))
    runs, decodes = found["tensor_rt"]["ros__parameters"], found["yolov8_decoder_node"]["ros__parameters"]
    assert (runs["input_binding_names"], runs["output_binding_names"]) == (["images"], ["output0"])
    assert runs["output_tensor_names"] == [decodes["tensor_name"]]
    assert decodes["num_classes"] == 2
    assert (tmp_path / "ros2" / runs["model_file_path"]).resolve() == tmp_path / "model.fp16.onnx"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param(
            {"imgsz": (320, 320)}, "8400 anchors, those of 640x640 pixels, and the input is 320x320", id="size"
        ),
        pytest.param({"strides": (4, 8, 16, 32)}, "8400 anchors, and this network's head gives 34000", id="P2 head"),
        pytest.param({"batch": 2}, "one image a call", id="batch"),
        pytest.param({"dynamic_batch": True}, "one image a call", id="dynamic batch"),
        pytest.param({"task": "pose"}, "wanted: a detector", id="task"),
    ],
)
def test_ros_2_is_refused_with_the_reason(changed, says):
    with pytest.raises(UsageError, match=says):
        require_possible(["ros2"], model(**changed))


def test_drop_ins_are_named_in_a_list_each_once():
    assert parse("triton, deepstream,triton") == ("triton", "deepstream")
    with pytest.raises(UsageError, match=r"no drop-in is called 'mediapipe'; wanted: one or more of deepstream"):
        parse("mediapipe")


def test_a_drop_in_that_cannot_be_leaves_no_bundle(tiny_weights, tmp_path):
    config = ExportConfig(imgsz=(64, 64), dropins=("ros2",))
    with pytest.raises(UsageError, match="ros2 cannot take this model"):
        export(tiny_weights, load_target("cpu"), config, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []

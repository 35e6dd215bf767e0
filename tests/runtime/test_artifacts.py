"""What `read_artifact` says of an .onnx, and how it refuses one."""

from __future__ import annotations

import hashlib

import onnx
import pytest
from onnx import TensorProto, helper

from slimdeploy.backends import onnx_graph
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.errors import ArtifactError, UsageError

SIDE = 32


def rewrite(path, change):
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def set_metadata(model, key, value):
    properties = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    helper.set_model_props(model, properties)


def test_an_onnx_tells_how_to_feed_it_and_what_it_costs(conv_model):
    path = conv_model(width=8, repeats=2)
    artifact = read_artifact(path)
    weights = 9 * (3 * 8 + 8 * 8 + 8 * 6)
    assert (artifact.format, artifact.precision) == ("onnx", "fp32")
    assert artifact.spec.classes == ("car", "van")
    assert (artifact.spec.imgsz, artifact.spec.stride, artifact.spec.batch) == ((SIDE, SIDE), 32, 1)
    assert artifact.parameters == weights  # the shape that Reshape takes is no weight
    assert artifact.macs == weights * SIDE * SIDE
    assert artifact.size_bytes == path.stat().st_size
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_macs_of_a_batch_are_counted_for_one_image(conv_model):
    def to_four(model):
        set_metadata(model, "batch", "4")
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 4
        shape = next(i for i in model.graph.initializer if i.name == "shape")
        shape.CopyFrom(helper.make_tensor("shape", TensorProto.INT64, [3], [4, 6, SIDE * SIDE]))

    one = read_artifact(conv_model("one")).macs
    assert read_artifact(rewrite(conv_model("four"), to_four)).macs == one


def test_the_precision_is_the_one_written_down(conv_model):
    path = rewrite(conv_model(), lambda model: set_metadata(model, onnx_graph.PRECISION_KEY, "fp16"))
    assert read_artifact(path).precision == "fp16"


def test_matrix_products_count_as_weights_and_arithmetic():
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Gemm", ["y", "v", "b"], ["z"]),
        ],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 2])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [5, 7], [0.0] * 35),
            helper.make_tensor("v", TensorProto.FLOAT, [7, 2], [0.0] * 14),
            helper.make_tensor("b", TensorProto.FLOAT, [2], [0.0] * 2),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert onnx_graph.count_weights(model) == 35 + 14 + 2
    assert onnx_graph.count_macs(model) == 35 + 14


def test_a_model_made_elsewhere_is_refused_with_the_way_out(conv_model):
    path = rewrite(conv_model(), lambda model: model.ClearField("metadata_props"))
    with pytest.raises(ArtifactError, match=r"made elsewhere: its metadata lacks task.*slimdeploy export"):
        read_artifact(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("names", "{0: 'car'", id="names that do not parse"),
        pytest.param("names", "7", id="names that are a number"),
        pytest.param("imgsz", "640", id="one side"),
        pytest.param("stride", "big", id="a stride in words"),
        pytest.param("names", "__import__('os').getcwd()", id="an expression"),
    ],
)
def test_damaged_metadata_is_refused(conv_model, key, value):
    path = rewrite(conv_model(), lambda model: set_metadata(model, key, value))
    with pytest.raises(ArtifactError, match="is damaged"):
        read_artifact(path)


def test_a_precision_that_does_not_exist_is_refused(conv_model):
    path = rewrite(conv_model(), lambda model: set_metadata(model, onnx_graph.PRECISION_KEY, "fp7"))
    with pytest.raises(ArtifactError, match="names the precision 'fp7'"):
        read_artifact(path)


def test_a_dynamic_shape_is_refused(conv_model):
    def loosen(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"

    with pytest.raises(ArtifactError, match=r"takes images \[0, 3, 32, 32\]"):
        read_artifact(rewrite(conv_model(), loosen))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_onnx_is_refused(conv_model, share):
    path = conv_model()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtifactError, match=r"truncated|holds no graph|lacks"):
        read_artifact(path)


def test_a_text_called_onnx_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("no model at all\n" * 20, encoding="utf-8")
    with pytest.raises(ArtifactError):
        read_artifact(path)


def test_a_missing_model_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no model at"):
        read_artifact(tmp_path / "model.onnx")


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "model.engine"
    path.write_bytes(b"")
    with pytest.raises(UsageError, match=r"a \.pt checkpoint or an \.onnx"):
        read_artifact(path)

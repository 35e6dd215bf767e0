"""An ONNX that somebody sent is read or refused in one line: no foreign exception, no hang, no wrong figure."""

from __future__ import annotations

import base64

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from slimdeploy.backends.artifacts import read_artifact, require_finite_weights
from slimdeploy.errors import ArtifactError

CYCLIC = "CAw6mQEKDQoBdxIBdyIISWRlbnRpdHkKHQoGaW1hZ2VzCgF3EgdvdXRwdXQwIgRDb252EgFn"  # its beginning: Identity(w) -> w


def change(path, how):
    model = onnx.load(path)
    how(model)
    onnx.save(model, path)
    return path


def set_metadata(key, value):
    return lambda model: helper.set_model_props(
        model, {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    )


def refused(path):
    with pytest.raises(ArtifactError) as caught:
        read_artifact(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 900
    return str(caught.value)


def identity_of_itself(model):
    model.graph.node.insert(0, helper.make_node("Identity", ["w0"], ["w0"]))


def cycle_of(*names):
    """Nodes that each take what the next one makes, the last one what the first makes; a convolution takes it."""

    def add(model):
        for taken, made in zip(names, (*names[1:], names[0]), strict=True):
            model.graph.node.insert(0, helper.make_node("Identity", [taken], [made]))
        convolution = next(node for node in model.graph.node if node.op_type == "Conv")
        convolution.input[1] = names[0]

    return add


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(identity_of_itself, id="a node that takes what it makes"),
        pytest.param(cycle_of("a"), id="one node, nothing stored"),
        pytest.param(cycle_of("a", "b"), id="two nodes"),
        pytest.param(cycle_of("a", "b", "c", "d"), id="four nodes"),
    ],
)
def test_a_cycle_is_refused_and_not_followed_for_ever(conv_model, how):
    assert "cycle" in refused(change(conv_model(), how))


def test_a_cycle_through_convolutions_is_refused(conv_model):
    def tie(model):
        model.graph.node[0].input[0] = "c1"

    assert "cycle" in refused(change(conv_model(repeats=2), tie))


def test_nodes_out_of_order_are_refused_and_not_called_a_cycle(conv_model):
    def turn(model):
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    assert "cycle" not in refused(change(conv_model(), turn))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("names", "[5]", "names", id="a list"),
        pytest.param("names", "{0: 'car', 2: 'van'}", "number its classes", id="a number left out"),
        pytest.param("names", "{0: 'car', 'x': 'van'}", "number its classes", id="a key that is a word"),
        pytest.param("names", "{0: 'car', 1: [2]}", "number its classes", id="a name that is a list"),
        pytest.param("names", "{0: 'car' 1: 'van'}", "comma", id="no comma"),
        pytest.param("names", "{0: 'car', 1: 'car'}", "two classes are called 'car'", id="two of one name"),
        pytest.param("names", "[" * 100_000, "names", id="100,000 brackets"),
        pytest.param("names", "{0: " + "-" * 100_000 + "1}", "names", id="100,000 signs"),
        pytest.param("names", "{0: 'a\0b', 1: 'c'", "names", id="a NUL"),
        pytest.param("names", "{\u0660: 'car'}", "names", id="digits that are no ASCII"),
        pytest.param("imgsz", "[1e999, 32]", "imgsz", id="infinity"),
        pytest.param("imgsz", "[32, 32, 32]", "imgsz", id="three sides"),
        pytest.param("imgsz", "[0, 32]", "imgsz", id="no height"),
        pytest.param("imgsz", "[-32, 32]", "imgsz", id="a negative side"),
        pytest.param("imgsz", "[999999, 32]", "imgsz", id="a huge side"),
        pytest.param("imgsz", "[" + "1" * 5000 + ", 32]", "imgsz", id="5,000 digits"),
        pytest.param("stride", "0", "stride", id="stride 0"),
        pytest.param("stride", "nan", "stride", id="no stride"),
        pytest.param("batch", "1" * 5000, "batch", id="a batch of 5,000 digits"),
        pytest.param("batch", "٣", "batch", id="a batch in other digits"),
        pytest.param("task", "\x1b[31m", "task", id="a task that colours the terminal"),
    ],
)
def test_metadata_that_says_nothing_usable_is_refused(conv_model, key, value, said):
    assert said in refused(change(conv_model(), set_metadata(key, value)))


def test_a_key_of_the_metadata_that_stands_there_twice_is_refused(conv_model):
    def again(model):
        model.metadata_props.add(key="names", value="{0: 'bus', 1: 'van'}")

    assert "twice" in refused(change(conv_model(), again))


@pytest.mark.parametrize("names", ["{0: 'it\\'s', 1: \"a, 'b'\"}", "{0: 'p\xe9', 1: '\\u884c'}", "{0: 7, 1: '8',}"])
def test_names_that_python_wrote_are_read_as_python_reads_them(conv_model, names):
    classes = read_artifact(change(conv_model(), set_metadata("names", names))).spec.classes
    assert classes == tuple(map(str, eval(names).values()))


@pytest.mark.parametrize(
    ("names", "count"), [("{0: 'car'}", "names 1 classes and gives 2"), ("{0: 'a', 1: 'b', 2: 'c'}", "names 3")]
)
def test_fewer_or_more_names_than_scores_are_refused(conv_model, names, count):
    assert count in refused(change(conv_model(), set_metadata("names", names)))


def no_inputs(model):
    del model.graph.input[:]


def no_outputs(model):
    del model.graph.output[:]


def no_dims(model):
    del model.graph.input[0].type.tensor_type.shape.dim[:]


def no_input_of_a_node(model):
    del model.graph.node[0].input[:]


def one_input_of_a_node(model):
    del model.graph.node[0].input[1:]


def no_output_of_a_node(model):
    del model.graph.node[0].output[:]


def output_twice(model):
    model.graph.output.append(model.graph.output[0])


def name_made_twice(model):
    model.graph.node.append(helper.make_node("Identity", ["images"], ["c0"]))


def output_that_nothing_makes(model):
    model.graph.output[0].name = "output1"
    model.graph.output.append(helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 6, 4]))


def no_opset(model):
    del model.opset_import[:]


def scalar_as_weight(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(1.0), "w0"))


def negative_dim(model):
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = -5


def huge_dim(model):
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 2**62


def huge_weight(model):
    model.graph.initializer[0].dims[0] = 2**40


def weight_of_another_size(model):
    model.graph.initializer[0].dims[0] += 1


def unknown_type_of_weight(model):
    model.graph.initializer[0].data_type = 9999


def one_channel(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1


def half_precision_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


@pytest.mark.parametrize(
    "how",
    [
        no_inputs, no_outputs, no_dims, no_input_of_a_node, one_input_of_a_node, no_output_of_a_node, output_twice,
        name_made_twice, output_that_nothing_makes, scalar_as_weight, negative_dim, huge_dim, huge_weight,
        weight_of_another_size, unknown_type_of_weight, no_opset, one_channel, half_precision_input,
    ],
    ids=lambda how: how.__name__.replace("_", " "),
)  # fmt: skip
def test_a_graph_that_cannot_be_right_is_refused(conv_model, how):
    refused(change(conv_model(), how))


def test_the_refusal_of_half_precision_images_says_what_to_do(conv_model):
    said = refused(change(conv_model(), half_precision_input))
    assert "takes its images as float16" in said
    assert "--precision fp16" in said


@pytest.mark.parametrize(
    ("location", "said"),
    [
        pytest.param("model.data", "model.data', beside it", id="there"),
        pytest.param("missing.data", "missing.data', which is missing", id="missing"),
        pytest.param("../outside.data", "outside its folder", id="in the folder above"),
        pytest.param("/etc/passwd", "outside its folder", id="absolute"),
        pytest.param("C:\\\\data", "outside its folder", id="on a Windows drive"),
        pytest.param("", "outside its folder", id="no name"),
        pytest.param("a\0b\x1b", "which is missing", id="control characters"),
    ],
)
def test_weights_in_another_file_are_refused_with_its_name(conv_model, tmp_path, location, said):
    (tmp_path / "model.data").write_bytes(b"\0" * 10_000)

    def outside(model):
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)

    path = conv_model()
    model = onnx.load(path)
    outside(model)
    path.write_bytes(model.SerializeToString())
    assert said in refused(path)


def test_a_graph_saved_with_external_data_is_refused(conv_model, tmp_path):
    model = onnx.load(conv_model(width=64, repeats=2))
    onnx.save(model, tmp_path / "large.onnx", save_as_external_data=True, location="large.bin", size_threshold=0)
    assert "another file, 'large.bin', beside it" in refused(tmp_path / "large.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_before_anything_is_run(conv_model, value):
    def spoil(model):
        weight = model.graph.initializer[0]
        values = numpy_helper.to_array(weight).copy()
        values.flat[3] = value
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    artifact = read_artifact(change(conv_model(), spoil))
    with pytest.raises(ArtifactError, match=r"model\.onnx gives NaN or infinity: its weights 'w0'"):
        require_finite_weights(artifact)


def test_an_infinite_bound_that_is_no_weight_is_no_fault(conv_model):
    def bound(model):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(np.inf), "most"))
        model.graph.node[-1].output[0] = "unbounded"
        model.graph.node.append(helper.make_node("Min", ["unbounded", "most"], ["output0"]))

    require_finite_weights(read_artifact(change(conv_model(), bound)))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(conv_model, share):
    path = conv_model()
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    refused(path)


def test_the_beginning_of_a_cyclic_file_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(base64.b64decode(CYCLIC))
    refused(tmp_path / "model.onnx")


@pytest.mark.parametrize("place", ["folder", "a\0b"])
def test_a_path_that_is_no_file_is_refused(tmp_path, place):
    (tmp_path / "folder.onnx").mkdir()
    refused(tmp_path / f"{place}.onnx")

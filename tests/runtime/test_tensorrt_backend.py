"""TensorRT at the desk, against the recorded bindings of its versions with ONNX Runtime inside."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from simulated_board import write_board, write_program
from surface_tensorrt import VERSIONS

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench.layers import layer_times
from slimdeploy.errors import ArtifactError, DeviceError, MissingDependency

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a libcudart with")

TRTEXEC = """
for one in "$@"; do case "$one" in
  --exportProfile=*) echo '[{"count": 20}, {"name": "conv", "averageMs": 0.25}]' > "${one#--exportProfile=}";;
  --exportLayerInfo=*) echo '{"Layers": [{"Name": "conv", "LayerType": "CaskConvolution",
    "Outputs": [{"Dimensions": [1, 8, 32, 32]}]}]}' > "${one#--exportLayerInfo=}";;
esac; done
echo "$@" > "$SLIMDEPLOY_BOARD_ROOT/asked"
"""


@pytest.fixture
def feeds():
    return {"images": np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_gives_what_onnx_runtime_gives(version, use, conv_model, feeds):
    module = use(version)
    artifact = read_artifact(conv_model())
    backend = backend_for(artifact, "tensorrt")
    session = backend.open(artifact, threads=1)
    found = session.run(feeds)
    session.close()
    wanted = backend_for(artifact).open(artifact, threads=1).run(feeds)
    assert backend.version == module.__version__
    assert found.keys() == wanted.keys()
    assert np.allclose(found["output0"], wanted["output0"], atol=1e-5)


def test_an_output_outlives_the_next_call(use, conv_model, feeds):
    use("10.3")
    artifact = read_artifact(conv_model())
    session = backend_for(artifact, "tensorrt").open(artifact)
    first = session.run(feeds)["output0"]
    kept = first.copy()
    session.run({"images": feeds["images"] + 1})
    assert np.array_equal(first, kept)


def test_the_engine_is_built_once_and_kept_beside_the_file(use, conv_model):
    module = use("10.3")
    path = conv_model()
    for _ in range(2):
        backend_for(read_artifact(path), "tensorrt").open(read_artifact(path)).close()
    assert module.world.asked["builds"] == 1
    assert len(list((path.parent / f"{path.name}-engines").glob("*.engine"))) == 1


def test_a_graph_that_tensorrt_refuses_is_one_clear_error(use, conv_model):
    use("10.3", refuse="no importer for Mish")
    artifact = read_artifact(conv_model())
    with pytest.raises(ArtifactError, match="does not take the graph: no importer for Mish"):
        backend_for(artifact, "tensorrt").open(artifact)


def test_without_tensorrt_it_is_said_what_to_install(monkeypatch, conv_model):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    artifact = read_artifact(conv_model())
    with pytest.raises(MissingDependency, match="no TensorRT"):
        backend_for(artifact, "tensorrt").open(artifact)


def test_layers_come_from_trtexec_with_operator_and_width(use, conv_model, feeds, monkeypatch, tmp_path):
    use("10.3")
    root = write_board(tmp_path / "root")
    monkeypatch.setenv("SLIMDEPLOY_BOARD_ROOT", str(root))
    artifact = read_artifact(conv_model())
    backend = backend_for(artifact, "tensorrt")
    with pytest.raises(MissingDependency, match="trtexec, which is not here"):
        layer_times(backend, artifact, feeds, threads=1, calls=20)
    write_program(root / "usr/src/tensorrt/bin/trtexec", TRTEXEC)
    (layer,) = layer_times(backend, artifact, feeds, threads=1, calls=20)
    assert (layer.name, layer.operator, layer.seconds, layer.width) == ("conv", "CaskConvolution", 0.25e-3, 8)
    asked = (root / "asked").read_text(encoding="utf-8")
    assert f"--onnx={artifact.path}" in asked
    assert "--stronglyTyped" in asked
    assert "--skipInference" not in asked


def test_a_trtexec_that_fails_is_told(use, conv_model, feeds, monkeypatch, tmp_path):
    use("10.3")
    root = write_board(tmp_path / "root")
    monkeypatch.setenv("SLIMDEPLOY_BOARD_ROOT", str(root))
    write_program(root / "usr/src/tensorrt/bin/trtexec", "echo '[E] no kernel'; exit 1")
    artifact = read_artifact(conv_model())
    with pytest.raises(DeviceError, match=r"failed: \[E\] no kernel"):
        layer_times(backend_for(artifact, "tensorrt"), artifact, feeds, threads=1, calls=20)

"""Runtimes open, run and refuse model files alike."""

from __future__ import annotations

import importlib.metadata
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for, backend_names
from slimdeploy.errors import ArtifactError, MissingDependency, UsageError
from slimdeploy.records import Artifact

RUNTIMES = ("onnxruntime", "openvino")


def artifact_of(path, *, file_format: str = "onnx") -> Artifact:
    """Return an artifact without reading the file."""
    known = {"path": str(path), "format": file_format, "precision": "fp32", "sha256": ""}
    return Artifact(**known, spec=None, parameters=1, macs=1, size_bytes=1)


@pytest.fixture
def feeds():
    return {"images": np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)}


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    if request.param == "openvino":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    return request.param


def test_a_session_gives_the_detectors_output_by_name(runtime, conv_model, feeds):
    artifact = read_artifact(conv_model())
    session = backend_for(artifact, runtime).open(artifact, threads=1)
    outputs = session.run(feeds)
    session.close()
    assert {name: values.shape for name, values in outputs.items()} == {"output0": (1, 6, 1024)}
    assert outputs["output0"].dtype == np.float32


def test_an_output_outlives_the_next_call(runtime, conv_model, feeds):
    artifact = read_artifact(conv_model())
    session = backend_for(artifact, runtime).open(artifact, threads=1)
    first = session.run(feeds)["output0"]
    kept = first.copy()
    session.run({"images": feeds["images"] + 1})
    assert np.array_equal(first, kept)


def test_runtimes_agree_to_the_precision_of_the_graph(conv_model, feeds):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    artifact = read_artifact(conv_model(width=64, repeats=3))
    one, other = (backend_for(artifact, name).open(artifact).run(feeds)["output0"] for name in RUNTIMES)
    assert np.abs(one).max() > 1
    assert np.allclose(one, other, rtol=1e-4, atol=1e-4)  # bfloat16 would be off by a hundredth


def test_a_damaged_file_is_refused_in_one_line(runtime, tmp_path):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"no model" * 100)
    with pytest.raises(ArtifactError, match=r"damaged\.onnx cannot be opened") as caught:
        backend_for(artifact_of(path), runtime).open(artifact_of(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(runtime, tmp_path):
    missing = artifact_of(tmp_path / "missing.onnx")
    with pytest.raises(ArtifactError, match="no model at"):
        backend_for(missing, runtime).open(missing)


def test_an_input_of_another_shape_is_refused(runtime, conv_model):
    artifact = read_artifact(conv_model())
    session = backend_for(artifact, runtime).open(artifact)
    with pytest.raises(ArtifactError, match="does not run"):
        session.run({"images": np.zeros((1, 3, 8, 8), dtype=np.float32)})


def test_idle_threads_of_onnx_runtime_are_told_to_stop_spinning():
    from slimdeploy.backends.onnxruntime_ import _options

    assert _options(2).get_session_config_entry("session.force_spinning_stop") == "1"


def test_onnx_files_go_to_onnx_runtime_unless_told(tmp_path):
    assert backend_for(artifact_of(tmp_path / "model.onnx")).name == "onnxruntime"


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"'tflite'.*onnxruntime, openvino, pytorch"):
        backend_for(artifact_of(tmp_path / "model.onnx"), "tflite")


def test_a_backend_refuses_a_format_that_it_does_not_open(tmp_path):
    with pytest.raises(UsageError, match="onnxruntime does not open"):
        backend_for(artifact_of(tmp_path / "model.pt", file_format="pt"), "onnxruntime")


def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "slimdeploy.backends.openvino_", raising=False)
    with pytest.raises(MissingDependency, match=r"slimdeploy\[openvino\]"):
        backend_for(artifact_of(tmp_path / "model.onnx"), "openvino")


class Plug:
    """A runtime of another package."""

    name, formats, version = "npu", frozenset({"onnx"}), "1.0"

    def open(self, artifact, *, threads=0):
        raise NotImplementedError


@pytest.fixture
def plug_in(monkeypatch):
    """Install an entry point that loads the given object, or raises the given error."""

    def install(loads):
        def load():
            if isinstance(loads, Exception):
                raise loads
            return loads

        point = SimpleNamespace(name="npu", value="npu_runtime:Npu", load=load)
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda *, group: [point] if group == "slimdeploy.backends" else []
        )

    return install


def test_another_package_can_add_a_backend(plug_in, tmp_path):
    plug_in(Plug)
    assert "npu" in backend_names()
    assert backend_for(artifact_of(tmp_path / "model.onnx"), "npu").version == "1.0"


def test_a_plug_in_that_does_not_load_is_named(plug_in, tmp_path):
    plug_in(ImportError("libnpu.so is missing"))
    with pytest.raises(UsageError, match=r"npu_runtime:Npu.*libnpu\.so is missing"):
        backend_for(artifact_of(tmp_path / "model.onnx"), "npu")

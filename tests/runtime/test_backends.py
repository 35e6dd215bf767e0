"""Runtimes open, run and refuse model files alike."""

from __future__ import annotations

import importlib.metadata
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for, backend_names
from slimdeploy.bench.measure import measure
from slimdeploy.configs import BenchConfig
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
    with pytest.raises(
        UsageError, match=r"'tflite'.*onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt, openvino, tensorrt"
    ):
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


NPU = """
from slimdeploy.backends.onnxruntime_ import OnnxRuntime

class Npu(OnnxRuntime):
    name = "npu"
    version = "7.5"

    def __init__(self):
        object.__setattr__(self, "name", "npu")
        object.__setattr__(self, "version", "7.5")
        object.__setattr__(self, "formats", frozenset({"onnx"}))
        object.__setattr__(self, "providers", ("CPUExecutionProvider",))
"""


def test_a_runtime_of_an_installed_package_is_measured_in_its_worker_like_any_other(conv_model, tmp_path, monkeypatch):
    about = tmp_path / "npu_runtime-7.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: npu-runtime\nVersion: 7.5\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[slimdeploy.backends]\nnpu = npu_runtime:Npu\n", encoding="utf-8")
    (tmp_path / "npu_runtime.py").write_text(NPU, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = BenchConfig(samples=7, rounds=7, threads=1, warmup_limit_s=0.2)
    (one,) = measure([("model", read_artifact(conv_model()))], config, backend="npu")
    assert (one.backend, one.environment["runtime_version"]) == ("npu", "7.5")


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_there_is_an_error_and_never_the_cpu(name, conv_model, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    artifact = read_artifact(conv_model())
    with pytest.raises(MissingDependency, match=r"works without the \w+ExecutionProvider.*onnxruntime-gpu"):
        backend_for(artifact, name).open(artifact)


def test_a_provider_that_does_not_load_is_an_error_too(conv_model, monkeypatch):
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)

    class WithoutCuda:
        def __init__(self, path, options, providers):
            pass

        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr("onnxruntime.InferenceSession", WithoutCuda)
    artifact = read_artifact(conv_model())
    with pytest.raises(MissingDependency, match="CUDAExecutionProvider"):
        backend_for(artifact, "onnxruntime-cuda").open(artifact)


def test_a_profile_tells_the_time_and_the_width_of_every_convolution(runtime, conv_model, feeds):
    artifact = read_artifact(conv_model(width=16, repeats=2))
    layers = backend_for(artifact, runtime).profile(artifact, feeds, threads=1, calls=3)
    convolutions = [layer for layer in layers if "conv" in layer.operator.lower()]
    assert [layer.width for layer in convolutions][:2] == [16, 16]
    assert convolutions[2].width in (6, 8, 16)  # ONNX Runtime fills up its blocks of channels
    assert all(layer.seconds > 0 for layer in convolutions)

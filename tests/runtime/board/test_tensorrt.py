"""Every call into TensorRT against the recorded enums and signatures of its versions, from build to golden sample."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import surface_tensorrt
from small_bundle import put
from surface_tensorrt import BY_NAME, VERSIONS

from slimdeploy.board import agent, cudart, tensorrt_calls, trtexec
from slimdeploy.board.build import graph_for
from slimdeploy.board.bundle import read_bundle
from slimdeploy.board.errors import ArtifactError, MissingDependency
from slimdeploy.board.machine import Machine
from slimdeploy.board.sessions import Engines
from slimdeploy.board.tensorrt_calls import Request, build_plan
from slimdeploy.board.timing import Timer

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make a libcudart with")


def ask(capsys, *argv):
    code = agent.main([str(one) for one in argv])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.strip().splitlines()[-1]), printed.err


def with_precision(bundle, precision, graphs=()):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["model"]["precision"] = precision
    manifest["graphs"] = [*graphs]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return read_bundle(bundle)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_is_built_loaded_and_finds_the_golden_boxes(bundle, use, capsys, version, library):
    module = use(version)
    code, built, _ = ask(capsys, "build", "--bundle", bundle, "--json")
    assert (code, built["cached"]) == (0, False)
    assert built["runtime"] == f"tensorrt {module.__version__}"
    code, checked, err = ask(capsys, "check", "--bundle", bundle, "--json")
    assert (code, checked.get("missing")) == (0, 0), err
    assert module.world.asked["api"] == "names"
    assert ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "live").value == 0


@pytest.mark.parametrize("without", [frozenset(), frozenset(BY_NAME)], ids=["names", "bindings"])
def test_of_two_outputs_the_one_that_the_manifest_names_is_read(bundle, use, capsys, without, library):
    use("8.6", without=without)
    model = onnx.load(bundle / "model.fp32.onnx")
    model.graph.output.insert(0, onnx.helper.make_tensor_value_info("means", onnx.TensorProto.FLOAT, [1, 2, 8, 12]))
    put(bundle, "model.fp32.onnx", model.SerializeToString())
    assert ask(capsys, "build", "--bundle", bundle, "--json")[0] == 0
    code, checked, err = ask(capsys, "check", "--bundle", bundle, "--json")
    assert (code, checked.get("missing")) == (0, 0), err
    assert ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "live").value == 0


def test_below_8_5_the_bindings_interface_is_used(bundle, use, capsys):
    module = use("8.6", without=frozenset(BY_NAME))
    assert ask(capsys, "build", "--bundle", bundle, "--json")[0] == 0
    code, checked, err = ask(capsys, "check", "--bundle", bundle, "--json")
    assert (code, checked.get("missing")) == (0, 0), err
    assert module.world.asked["api"] == "bindings"


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("8.6", "fp32", []),
        ("8.6", "fp16", ["FP16"]),
        ("8.6", "int8", ["FP16", "INT8"]),
        *((version, precision, []) for version in VERSIONS[1:] for precision in ("fp32", "fp16", "int8")),
    ],
)
def test_flags_set_the_precision_up_to_9_and_the_graph_does_from_10_on(use, bundle, version, precision, flags):
    module = use(version)
    request = Request(onnx=(bundle / "model.fp32.onnx").read_bytes(), precision=precision, shapes={})
    plan, learned = build_plan(module, request)
    assert plan.startswith(b"PLAN")
    assert learned == b"learned"
    assert module.world.asked["flags"] == flags
    kinds = module.NetworkDefinitionCreationFlag
    wanted = {"8": "EXPLICIT_BATCH", "10": "STRONGLY_TYPED"}.get(version.split(".")[0])
    assert module.world.asked["network"] == (1 << int(kinds[wanted]) if wanted else 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dla_is_used_where_there_is_one_and_refused_where_not(use, bundle, version):
    graph = (bundle / "model.fp32.onnx").read_bytes()
    module = use(version, cores=2)
    build_plan(module, Request(onnx=graph, precision="fp16", shapes={}, dla_core=1))
    assert "GPU_FALLBACK" in module.world.asked["flags"]
    with pytest.raises(tensorrt_calls.UsageError, match="runs no int8 graph"):
        build_plan(module, Request(onnx=graph, precision="int8", shapes={}, dla_core=1))
    with pytest.raises(tensorrt_calls.UsageError, match=r"no DLA core 0: TensorRT .* finds 0 here"):
        build_plan(use(version), Request(onnx=graph, precision="fp16", shapes={}, dla_core=0))


def test_a_name_that_a_version_lacks_raises_in_the_stand_in(use):
    module = use("11.4")
    with pytest.raises(AttributeError):
        _ = module.BuilderFlag.FP16
    with pytest.raises(AttributeError, match="has no platform_has_fast_fp16"):
        _ = module.Builder(None).platform_has_fast_fp16
    with pytest.raises(TypeError, match="set_timing_cache takes"):
        module.Builder(None).create_builder_config().set_timing_cache(b"")


def test_a_second_build_is_there_already_and_another_tensorrt_builds_again(bundle, use, capsys, tmp_path):
    cache = tmp_path / "cache"
    argv = ("build", "--bundle", bundle, "--cache", cache, "--json")
    first = use("10.3")
    ask(capsys, *argv)
    assert ask(capsys, *argv)[1]["cached"] is True
    assert first.world.asked["builds"] == 1
    assert use("10.16") is not None
    assert ask(capsys, *argv)[1]["cached"] is False
    assert not (bundle / "engines").exists()
    assert [p.name for p in cache.glob("*.partial")] == []


def test_what_a_build_learned_serves_the_next_one(bundle, use, capsys, tmp_path):
    module = use("10.3")
    ask(capsys, "build", "--bundle", bundle, "--cache", tmp_path / "cache", "--json")
    for engine in (tmp_path / "cache").glob("*.engine"):
        engine.unlink()
    ask(capsys, "build", "--bundle", bundle, "--cache", tmp_path / "cache", "--json")
    assert module.world.asked["timing_cache"] == b"learned"


def test_a_graph_that_tensorrt_refuses_is_told_with_its_own_words(bundle, use, capsys):
    use("8.6", refuse="UNSUPPORTED_NODE: No importer for op Gelu")
    code, told, err = ask(capsys, "build", "--bundle", bundle, "--json")
    assert (code, told["error"]) == (2, "ArtifactError")
    assert "No importer for op Gelu" in err
    assert list((bundle / "engines").iterdir()) == []


def test_a_check_without_an_engine_says_what_builds_it(bundle, use, capsys):
    use("10.3")
    code, told, _ = ask(capsys, "check", "--bundle", bundle, "--json")
    assert (code, told["do"]) == (2, "build it: python3 agent.pyz build")


def test_an_engine_that_was_altered_is_not_loaded(bundle, use, capsys):
    use("10.3")
    ask(capsys, "build", "--bundle", bundle, "--json")
    (engine,) = (bundle / "engines").glob("*.engine")
    engine.write_bytes(engine.read_bytes() + b"x")
    code, _, err = ask(capsys, "check", "--bundle", bundle, "--json")
    assert code == 2
    assert "is not what was built" in err


@pytest.mark.parametrize("version", VERSIONS)
def test_a_graph_is_timed_on_memory_of_the_gpu_that_is_given_back(use, bundle, version, library):
    module = use(version)
    timer = Timer(Engines(machine=Machine(), cache=Path("unused")))
    graph = (bundle / "model.fp32.onnx").read_bytes()
    told = timer.time(graph, precision="fp32", budget_s=0.0, calls=(5, 9))
    assert (len(told["samples_s"]), told["backend"], told["version"]) == (5, "tensorrt", module.__version__)
    timer.time(graph, precision="fp32", budget_s=0.0, calls=(5, 9))
    assert module.world.asked["timing_cache"] == b"learned"
    assert ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "live").value == 0


def test_an_engine_of_another_version_is_refused(use, bundle):
    graph = (bundle / "model.fp32.onnx").read_bytes()
    plan, _ = build_plan(use("10.3"), Request(onnx=graph, precision="fp32", shapes={}))
    with pytest.raises(ArtifactError, match="does not load the engine"):
        tensorrt_calls.Context(use("10.16"), plan, {})


def test_int8_takes_the_graph_whose_body_the_version_builds(bundle):
    put(bundle, "model.int8-fp16.onnx", (bundle / "model.fp32.onnx").read_bytes())
    graphs = [
        {"file": "model.fp32.onnx", "precision": "int8", "body": "float32"},
        {"file": "model.int8-fp16.onnx", "precision": "int8", "body": "float16"},
    ]
    known = with_precision(bundle, "int8", graphs)
    assert graph_for(known, "8.6.1").name == "model.fp32.onnx"
    assert graph_for(known, "10.3.0").name == "model.int8-fp16.onnx"


def test_no_cuda_is_told(tmp_path):
    with pytest.raises(MissingDependency, match="no libcudart"):
        cudart.Cudart([str(tmp_path / "libcudart.so")])


@pytest.mark.parametrize(
    ("version", "precision", "has", "lacks"),
    [
        ((8, 2), "fp16", {"--fp16", "--buildOnly", "--workspace=1024"}, {"--stronglyTyped"}),
        ((8, 5), "int8", {"--fp16", "--int8", "--buildOnly", "--memPoolSize=workspace:1024"}, {"--skipInference"}),
        ((8, 6), "fp32", {"--skipInference"}, {"--fp16", "--int8", "--buildOnly"}),
        ((10, 3), "fp16", {"--stronglyTyped", "--skipInference"}, {"--fp16", "--buildOnly"}),
        ((11, 4), "int8", {"--skipInference"}, {"--fp16", "--int8", "--stronglyTyped"}),
    ],
)
def test_trtexec_gets_the_flags_of_its_version(version, precision, has, lacks):
    files = trtexec.Files(onnx=Path("m.onnx"), engine=Path("e"), timing_cache=Path("t"))
    argv = trtexec.command(Path("trtexec"), version, files, precision=precision)
    assert has <= set(argv)
    assert not lacks & set(argv)
    assert {"--onnx=m.onnx", "--saveEngine=e", "--timingCacheFile=t"} <= set(argv)


@pytest.mark.parametrize("version", [(8, 2), (8, 6), (10, 3), (11, 4)])
def test_trtexec_is_told_how_many_images_a_call_may_hold_where_the_graph_leaves_that_open(version):
    shapes = {"images": (8, 3, 384, 640)}
    files = trtexec.Files(onnx=Path("m.onnx"), engine=Path("e"), timing_cache=Path("t"), shapes=shapes)
    told = [one for one in trtexec.command(Path("trtexec"), version, files, precision="fp16") if "Shapes" in one]
    sizes = {"min": "1x3x384x640", "opt": "8x3x384x640", "max": "8x3x384x640"}
    assert told == [f"--{which}Shapes=images:{size}" for which, size in sizes.items()]
    on_dla = trtexec.command(Path("trtexec"), version, files, precision="fp16", dla_core=0)
    assert "--minShapes=images:8x3x384x640" in on_dla


def test_a_static_graph_names_no_shapes_to_trtexec():
    files = trtexec.Files(onnx=Path("m.onnx"), engine=Path("e"), timing_cache=Path("t"))
    assert "Shapes" not in " ".join(trtexec.command(Path("trtexec"), (10, 3), files, precision="fp16"))


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec", (8, 5)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b30] # trtexec", (10, 3)),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v101602] # trtexec", (10, 16)),
        ("trtexec: not found", None),
    ],
)
def test_trtexec_tells_its_version(banner, version):
    assert trtexec.version_of(banner) == version


def test_surfaces_name_the_wheels_that_they_were_read_from():
    for version in VERSIONS:
        surface = json.loads((surface_tensorrt.SURFACES / f"{version}.json").read_text(encoding="utf-8"))
        assert re.fullmatch(r"tensorrt_(cu12_)?bindings-[\d.]+-cp311-\S+\.whl", surface["wheel"])
        assert re.fullmatch(r"[0-9a-f]{64}", surface["sha256"])


REAL_BUILD = """
import sys
from slimdeploy.board.tensorrt_calls import Request, build_plan
from slimdeploy.bundle.trtcheck_child import load

class AsEleven:
    __version__ = "11.0"
    def __getattr__(self, name):
        return getattr(real, name)

real = load()
plan, learned = build_plan(AsEleven(), Request(onnx=open(sys.argv[1], "rb").read(), precision="fp32", shapes={}))
print(len(plan))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx") is None, reason="needs the extra trtcheck"
)
def test_nvidias_own_builder_makes_an_engine_of_these_calls(bundle):
    """TensorRT-RTX builds without a GPU: its engines run on none of these boards, but the calls are real ones."""
    argv = [sys.executable, "-c", REAL_BUILD, str(bundle / "model.fp32.onnx")]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[-1]) > 1000

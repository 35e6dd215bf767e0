"""`build` where ONNX Runtime is what the machine has, with trtexec, and `slimdeploy build`."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import surface_tensorrt
from agent_process import run_agent
from bright_detector import write_bright_bundle
from simulated_board import write_board, write_program

from slimdeploy.board import agent, cudart, sessions
from slimdeploy.cli import main

TRTEXEC = """
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec $*"
for one in "$@"; do case "$one" in --saveEngine=*) echo "$@" > "${one#--saveEngine=}";; esac; done
"""


def slimdeploy(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["slimdeploy", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, capsys.readouterr()


def test_with_onnx_runtime_the_graph_is_opened_and_nothing_is_written(bundle, tmp_path):
    ended = run_agent(bundle, "build", "--cache", str(tmp_path / "cache"))
    assert (ended.code, ended.told["engine"]) == (0, None)
    assert ended.told["runtime"].startswith("onnxruntime ")
    assert not (tmp_path / "cache").exists()


def test_a_simulated_board_is_marked_in_what_build_says(bundle, tmp_path):
    assert run_agent(bundle, "build", root=write_board(tmp_path / "root")).told["simulated"] is True
    assert run_agent(bundle, "build").told["simulated"] is False


@pytest.fixture
def with_trtexec_alone(monkeypatch, tmp_path):
    """A board that has trtexec, and no Python module of any runtime."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to make a libcudart with")
    monkeypatch.setattr(sessions.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cudart, "LIBRARIES", (str(surface_tensorrt.write_cudart(tmp_path)),))
    root = write_board(tmp_path / "root")
    write_program(root / "usr/src/tensorrt/bin/trtexec", TRTEXEC)
    monkeypatch.setenv("SLIMDEPLOY_BOARD_ROOT", str(root))
    return root


def test_trtexec_builds_where_the_module_is_missing(bundle, with_trtexec_alone, capsys):
    assert agent.main(["build", "--bundle", str(bundle), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    assert (built["runtime"], built["simulated"], built["cached"]) == ("tensorrt 10.3", True, False)
    (engine,) = (bundle / "engines").glob("*.engine")
    assert "--stronglyTyped" in engine.read_text(encoding="utf-8")
    agent.main(["build", "--bundle", str(bundle), "--json"])
    assert json.loads(capsys.readouterr().out)["cached"] is True


def test_trtexec_gets_the_shapes_of_a_bundle_that_leaves_the_number_of_images_open(bundle, with_trtexec_alone):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["input"].update(shape=[4, 3, 64, 96], dynamic_batch=True)
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert agent.main(["build", "--bundle", str(bundle), "--json"]) == 0
    (engine,) = (bundle / "engines").glob("*.engine")
    said = engine.read_text(encoding="utf-8")
    assert "--minShapes=images:1x3x64x96 --optShapes=images:4x3x64x96 --maxShapes=images:4x3x64x96" in said


def test_a_trtexec_that_fails_is_told_with_its_first_error(bundle, with_trtexec_alone, capsys):
    script = "echo '[TensorRT v100300]'; [ $1 = --help ] && exit 0; echo '[E] no kernel for /model.0/conv'; exit 1"
    write_program(with_trtexec_alone / "usr/src/tensorrt/bin/trtexec", script)
    assert agent.main(["build", "--bundle", str(bundle)]) == 4
    assert "no kernel for /model.0/conv" in capsys.readouterr().err
    assert list((bundle / "engines").glob("*.engine")) == []


def test_slimdeploy_build_checks_what_it_built_and_leaves_the_bundle_whole(bundle, monkeypatch, capsys):
    before = sorted(path.name for path in bundle.rglob("*"))
    code, printed = slimdeploy(monkeypatch, capsys, "build", bundle)
    assert code == 0, printed.err
    assert "golden sample: 2 boxes found in onnxruntime" in printed.out
    assert sorted(path.name for path in bundle.rglob("*")) == before


def test_a_bundle_for_tensorrt_needs_it_or_another_runtime_by_name(tmp_path, monkeypatch, capsys):
    bundle = write_bright_bundle(tmp_path / "jetson", target="orin-nano-8gb")
    code, printed = slimdeploy(monkeypatch, capsys, "build", bundle)
    assert (code, printed.out) == (3, "")
    assert "whose runtime is TensorRT" in printed.err
    assert "--runtime onnxruntime" in printed.err
    assert slimdeploy(monkeypatch, capsys, "build", bundle, "--runtime", "onnxruntime")[0] == 0
    assert run_agent(bundle, "build").code == 3


def test_slimdeploy_build_of_no_bundle_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    code, printed = slimdeploy(monkeypatch, capsys, "build", tmp_path)
    assert code == 2
    assert "is no bundle" in printed.err
    assert len(printed.err.splitlines()) == 1

"""NVIDIA's parser accepts a graph, refuses it, or was not run; nothing else ever counts as accepted."""

from __future__ import annotations

import os
import re
import sys

import pytest

from slimdeploy._needs import pip_line
from slimdeploy.bundle import trtcheck
from slimdeploy.bundle.manifest import published_schema
from slimdeploy.bundle.schema import problems
from slimdeploy.bundle.trtcheck import Complaint, Verdict, check_graph, require_accepted
from slimdeploy.errors import GateError
from slimdeploy.targets import list_targets, load_target

ACCEPTED = Verdict(outcome="accepted", parser="TensorRT-RTX 1.7.1.116")
COMPLAINT = Complaint(code="UNSUPPORTED_NODE", node="/22/find", operator="NonZero", description="no plugin\n found")
REFUSED = Verdict(outcome="refused", parser="TensorRT-RTX 1.7.1.116", complaints=(COMPLAINT,))
ANSWER = '{"parser": "TensorRT-RTX 1.7.1.116", "built": false, "complaints": []}'
WRITE_ANSWER = f"import pathlib, sys\npathlib.Path(sys.argv[2]).write_text('{ANSWER}')\n"


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "model.fp16.onnx"
    path.write_bytes(b"graph")
    return path


@pytest.fixture
def checker(tmp_path, monkeypatch):
    """Put another program in the place of the one that loads NVIDIA's library."""

    def replace(code):
        (tmp_path / "stand_in_for_the_checker.py").write_text(code, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(trtcheck, "CHILD", "stand_in_for_the_checker")
        monkeypatch.setattr(trtcheck, "_why_not", lambda: "")

    return replace


def on_linux(monkeypatch, *, installed):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(trtcheck.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(trtcheck, "is_installed", lambda module: module in installed)


@pytest.mark.parametrize("installed", [(), ("tensorrt_rtx_bindings",), ("onnxruntime_ep_nv_tensorrt_rtx",)])
def test_without_both_packages_it_is_not_run_and_the_pip_line_is_told(graph, monkeypatch, installed):
    on_linux(monkeypatch, installed=installed)
    verdict = check_graph(graph)
    assert verdict.outcome == "not run"
    assert verdict.reason.endswith(pip_line("trtcheck"))


@pytest.mark.parametrize(("system", "machine"), [("win32", "AMD64"), ("darwin", "arm64"), ("linux", "aarch64")])
def test_where_nvidia_publishes_no_parser_it_is_not_run(graph, monkeypatch, system, machine):
    monkeypatch.setattr(trtcheck, "is_installed", lambda _module: True)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(trtcheck.platform, "machine", lambda: machine)
    assert check_graph(graph) == Verdict(outcome="not run", reason="NVIDIA publishes it for Linux on x86-64 alone")


def test_an_answer_without_complaints_is_acceptance(graph, checker):
    checker(WRITE_ANSWER)
    assert check_graph(graph) == ACCEPTED


def test_an_answer_with_a_complaint_is_a_refusal_in_the_parsers_words(graph, checker):
    said = (
        '{"code": "UNSUPPORTED_NODE", "node": "/22/find", "operator": "NonZero", "description": "no plugin\\\\n found"}'
    )
    checker(WRITE_ANSWER.replace("[]", f"[{said}]"))
    assert check_graph(graph) == REFUSED


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("import os; os._exit(3)", r"its process died with exit code 3", id="exit"),
        pytest.param("raise OSError('libtensorrt_rtx.so.1: gone')", r"exit code 1; .*libtensorrt_rtx", id="no library"),
        pytest.param(f"{WRITE_ANSWER}\nimport os; os._exit(9)", "died with exit code 9", id="died after its answer"),
        pytest.param("pass", "its process ended without an answer", id="silence"),
    ],
)
def test_a_checker_that_fails_is_reported_and_accepts_nothing(graph, checker, caplog, code, reason):
    checker(code)
    verdict = check_graph(graph)
    assert verdict.outcome == "not run"
    assert re.search(reason, verdict.reason)
    assert f"no verdict on {graph.name}" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="processes end by signals on POSIX alone")
def test_a_crash_of_the_native_library_is_reported_and_accepts_nothing(graph, checker):
    checker("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert check_graph(graph) == Verdict(outcome="not run", reason="its process died with signal 11")


def test_a_checker_that_hangs_is_ended_and_accepts_nothing(graph, checker, tmp_path):
    alive = tmp_path / "pid"
    write_pid = f"import os, pathlib, time; pathlib.Path({str(alive)!r}).write_text(str(os.getpid()))"
    checker(f"{write_pid}\ntime.sleep(600)")
    verdict = check_graph(graph, timeout_s=3)
    assert verdict == Verdict(outcome="not run", reason="its process gave no answer within 3 s")
    if sys.platform != "win32" and alive.is_file():
        with pytest.raises(ProcessLookupError):
            os.kill(int(alive.read_text(encoding="utf-8")), 0)


def test_it_is_asked_for_every_nvidia_target_and_for_no_other(graph, monkeypatch):
    monkeypatch.setattr(trtcheck, "check_graph", lambda _graph: ACCEPTED)
    asked = {target.name for target in list_targets() if require_accepted(graph, target) == ACCEPTED}
    assert asked == {target.name for target in list_targets()} - {"cpu", "cpu-openvino"}


def test_a_refused_graph_is_a_gate_that_is_not_met_in_one_line(graph, monkeypatch):
    monkeypatch.setattr(trtcheck, "check_graph", lambda _graph: REFUSED)
    with pytest.raises(GateError) as raised:
        require_accepted(graph, load_target("jetson"))
    assert raised.value.wrong == (
        "NVIDIA's parser (TensorRT-RTX 1.7.1.116) refuses model.fp16.onnx: "
        "UNSUPPORTED_NODE at NonZero '/22/find': no plugin found"
    )
    assert raised.value.exit_code == 5


def test_of_many_complaints_the_first_are_told_and_the_others_counted(graph, monkeypatch):
    many = Verdict(outcome="refused", parser="TensorRT-RTX 1", complaints=(COMPLAINT,) * 9)
    monkeypatch.setattr(trtcheck, "check_graph", lambda _graph: many)
    with pytest.raises(GateError, match=r"\| and 6 more;") as raised:
        require_accepted(graph, load_target("jetson"))
    assert raised.value.wrong.count("UNSUPPORTED_NODE") == 3


def test_a_graph_that_could_not_be_checked_passes_with_the_reason(graph, checker):
    checker("import os; os._exit(3)")
    verdict = require_accepted(graph, load_target("jetson"))
    assert verdict.as_manifest() == {
        "nvidia_parser": "not run",
        "nvidia_parser_reason": "its process died with exit code 3",
    }


@pytest.mark.parametrize("verdict", [ACCEPTED, trtcheck.NOT_ASKED])
def test_what_the_manifest_says_of_it_follows_the_schema(verdict):
    board = {"run": "not run", **verdict.as_manifest()}
    assert list(problems(board, published_schema()["properties"]["board"])) == []


def test_the_schema_knows_no_bundle_of_a_refused_graph():
    board = {"run": "not run", **REFUSED.as_manifest()}
    assert list(problems(board, published_schema()["properties"]["board"])) != []

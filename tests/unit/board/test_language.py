"""The agent speaks Python 3.8, needs nothing that a board lacks, and packs into the same bytes each time."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from slimdeploy import board, errors
from slimdeploy.board import errors as board_errors
from slimdeploy.bundle.agent import write_agent

ROOM = Path(board.__file__).parent
SOURCES = sorted(ROOM.glob("*.py"))
ALLOWED = {*sys.stdlib_module_names, "numpy", "cv2", "onnxruntime", "tensorrt"}


@pytest.fixture
def agent(tmp_path):
    write_agent(tmp_path / "agent.pyz")
    return tmp_path / "agent.pyz"


def imported(tree):
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_file_parses_as_python_3_8(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_vermin_finds_nothing_newer_than_python_3_8(agent, tmp_path):
    pytest.importorskip("vermin")
    with zipfile.ZipFile(agent) as packed:
        packed.extractall(tmp_path / "unpacked")
    argv = [sys.executable, "-c", "import vermin; vermin.main()", "-t=3.8-", "--violations", "--no-tips"]
    ended = subprocess.run([*argv, str(tmp_path / "unpacked")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_room_imports_only_itself_and_what_a_board_may_have(path):
    outside = {
        name
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if not name.startswith("slimdeploy.board") and name.split(".")[0] not in ALLOWED
    }
    assert outside == set()


def test_the_agent_starts_where_slimdeploy_is_not_installed(agent, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-I", str(agent), "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "probe" in ended.stdout


def test_the_file_that_starts_the_agent_is_read_by_python_2_too(agent):
    with zipfile.ZipFile(agent) as packed:
        start = packed.read("__main__.py").decode("ascii")
    before_the_check = start.split("sys.exit(3)")[0]
    assert {"f'", 'f"'} & {before_the_check[i : i + 2] for i in range(len(before_the_check))} == set()
    ast.parse(start, feature_version=(3, 4))


def test_the_same_sources_give_the_same_bytes(agent, tmp_path):
    write_agent(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == agent.read_bytes()


def test_a_wrong_verb_is_exit_code_2(agent):
    ended = subprocess.run([sys.executable, str(agent), "fly"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "fly" in ended.stderr


def test_the_agents_errors_are_those_of_the_desk():
    for name in ("UsageError", "ArtifactError", "MissingDependency", "DeviceError", "GateError"):
        ours, theirs = getattr(board_errors, name), getattr(errors, name)
        assert ours.exit_code == theirs.exit_code
        assert str(ours("a", wanted="b", do="c")) == str(theirs("a", wanted="b", do="c"))
        assert ours("a").as_json() == {"schema": 1, **theirs("a").as_json()}

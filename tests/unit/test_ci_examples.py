"""The files for build servers pass their own linters, and call slimdeploy as it is."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slimdeploy.cli import app

CI = Path(__file__).parents[2] / "examples" / "ci"
LINTERS = {
    "the workflow's schema": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", "workflow.yml"],
    "the workflow's safety": ["zizmor", "--offline", "--no-progress", "workflow.yml"],
    "the container file": ["hadolint", "Containerfile"],
}


@pytest.mark.parametrize("what", LINTERS)
def test_a_linter_finds_nothing(what):
    program, *argv = LINTERS[what]
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    ended = subprocess.run([found, *argv], cwd=CI, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def commands() -> list[list[str]]:
    lines = (CI / "workflow.yml").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line.split("run:", 1)[1]) for line in lines if line.strip().startswith("run: slimdeploy")]


def test_the_workflow_runs_a_recipe_a_gate_and_a_bundle():
    assert [one[1] for one in commands()] == ["run", "gate", "bundle"]


@pytest.mark.parametrize("argv", commands(), ids=lambda argv: argv[1])
def test_every_option_of_the_workflow_is_one_of_its_verb(argv):
    verb = argv[1:3] if argv[1] == "bundle" else argv[1:2]
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"}).output
    assert [one for one in argv if one.startswith("--") and one not in shown] == []


def test_the_container_copies_what_the_package_is_built_from():
    text = (CI / "Containerfile").read_text(encoding="utf-8")
    copied = {word for line in text.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]}
    assert {"pyproject.toml", "slimdeploy", "targets", "README.md", "LICENSE"} <= copied
    assert all((CI.parents[1] / name).exists() for name in copied)

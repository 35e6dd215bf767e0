"""The README's six commands work as they stand, and its table is the newest committed result."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def newcomers_commands() -> list[list[str]]:
    block = README.split("<!-- newcomer: begin -->")[1].split("<!-- newcomer: end -->")[0]
    return [shlex.split(line) for line in block.splitlines() if line and not line.startswith("```")]


def run(command: list[str], folder: Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=1200)
    assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
    return ran.stdout


def with_this_python(command: list[str]) -> list[str]:
    """Run `slimdeploy` of the environment at hand, and the demo quickly."""
    assert command[0] == ".venv/bin/slimdeploy"
    quick = ["--quick"] if command[1] == "demo" else []
    return [sys.executable, "-c", "from slimdeploy.cli import main; main()", *command[1:], *quick]


def test_the_readme_has_six_commands_from_nothing_to_the_board():
    verbs = [command[1] for command in newcomers_commands() if command[0] == ".venv/bin/slimdeploy"]
    assert len(newcomers_commands()) == 6
    assert verbs == ["demo", "prune", "compare", "export"]


def test_the_readmes_commands_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    demo, prune, compare, export = (run(with_this_python(command), tmp_path) for command in newcomers_commands()[2:])
    assert re.search(r"^tuned\s+model\.fp32\.onnx\s", demo, re.MULTILINE)
    assert demo.rstrip().endswith(str(Path("demo-run/run/report/report.html")))
    assert "MACs" in prune
    assert (tmp_path / "lighter" / "plan.json").exists()
    assert "rendered scenes" in compare
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "trtexec" in export.rstrip().splitlines()[-1]


@pytest.mark.slow
def test_the_readmes_commands_work_as_they_stand_in_a_new_environment(tmp_path):
    clone = tmp_path / "slimdeploy"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for command in newcomers_commands():
        run(command, clone)
    assert (clone / "bundle" / "manifest.json").exists()


@pytest.mark.parametrize("script", ["readme_table.py", "training_table.py", "latency_table.py"])
def test_the_readmes_tables_are_the_newest_committed_results(script):
    check = [sys.executable, str(ROOT / "benchmarks" / script), "--check"]
    ran = subprocess.run(check, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert ran.returncode == 0

"""A stdout that is full, closed or not read costs no work: what is complete is said to be complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slimdeploy.lineage import write_json
from slimdeploy.records import Row, as_json

RUN = "from slimdeploy.cli import main; main()"
# Stands in for a stage: makes its folder, and prints as the verb does.
STAGE = """
import sys
import typer
from pathlib import Path
from slimdeploy.cli import _shared, targets
from slimdeploy.lineage import stage_run
from slimdeploy.configs import BenchConfig

def made(_name):
    out = Path("out")
    with stage_run("bench", config=BenchConfig(), inputs={}, out=out):
        pass
    more = "made " * 40_000  # than a pipe holds
    _shared.show({"made": more}, text=more, as_json="--json" in sys.argv, complete=out)
    raise typer.Exit

targets.load_target = made
from slimdeploy.cli import main
main()
"""
ROW = Row(name="dense", file="dense.pt", format="pt", precision="fp32", parameters=1, size_bytes=1, macs=1)
pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


def shell(code: str, arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code with arguments and redirections as a shell reads them."""
    line = f'exec "$0" -c "$1" {arguments}'
    return subprocess.run(
        ["/bin/bash", "-c", line, sys.executable, code], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("form", ["", " --json"])
@pytest.mark.parametrize(
    ("redirection", "code", "why"),
    [
        pytest.param("> /dev/full", 1, "No space left on device", id="full"),
        pytest.param(">&-", 0, "it is closed", id="closed"),
        pytest.param("| true; exit ${PIPESTATUS[0]}", 0, "nobody reads standard output any more", id="not read"),
    ],
)
def test_a_complete_output_is_named_where_its_result_cannot_be_printed(tmp_path, form, redirection, code, why):
    ended = shell(STAGE, f"targets nano{form} {redirection}", tmp_path)
    assert ended.returncode == code, ended.stderr
    assert f"slimdeploy: the result could not be printed: {why}; out is complete\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "out" / "run.json").is_file()


@pytest.mark.parametrize("verb", ["targets", "targets nano --json", "--help", "gate . --max-size-mb 1"])
def test_a_full_stdout_is_one_line_of_every_verb(tmp_path, verb):
    write_json(tmp_path / "bench.json", {"schema": 1, "title": "a", "rows": [as_json(ROW)], "notes": []})
    ended = shell(RUN, f"{verb} > /dev/full", tmp_path)
    assert (ended.returncode, ended.stderr) == (
        1, "slimdeploy: the result could not be printed: No space left on device\n",
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["targets", "targets nano --json", "--help"])
@pytest.mark.parametrize("redirection", [">&-", "| true; exit ${PIPESTATUS[0]}"])
def test_whoever_reads_nothing_hears_nothing(tmp_path, verb, redirection):
    ended = shell(RUN, f"{verb} {redirection}", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-", "2> /dev/full", "2>&-", "> /dev/full 2>&1", "0<&-"])
def test_an_error_keeps_its_code_whatever_becomes_of_its_message(tmp_path, redirection):
    ended = shell(RUN, f"targets nonesuch --json {redirection}", tmp_path)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr + ended.stdout


def test_a_file_that_is_written_while_stdout_is_closed_holds_nothing_else(tmp_path):
    code = """
from slimdeploy.cli import targets

def write(_name):
    with open("file", "wb") as stream:
        print("in the way")
        import os
        os.write(1, b"in the way, too")
        stream.write(b"whole")
    raise ValueError

targets.load_target = write
from slimdeploy.cli import main
main()
"""
    shell(code, "targets nano >&-", tmp_path)
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_working_directory_that_is_gone_is_asked_wrongly(tmp_path):
    ended = shell(RUN, "targets --json", tmp_path)
    assert ended.returncode == 0
    line = 'mkdir gone && cd gone && rmdir ../gone && exec "$0" -c "$1" targets --json'
    ended = subprocess.run(
        ["/bin/bash", "-c", line, sys.executable, f"import sys; sys.path.insert(0, {str(ROOT)!r}); {RUN}"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["error"] == "UsageError"
    assert ended.stderr == "slimdeploy: the working directory is gone; do: change into one that exists\n"


ROOT = Path(__file__).parents[3]

"""`run` on a GStreamer pipeline, in Debian's own Python, whose OpenCV reads pipelines as JetPack's does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

DEBIANS = shutil.which("python3", path="/usr/bin") or "python3"
ASKED = (
    "import cv2, sys; pipelines = 'GStreamer:                   YES' in cv2.getBuildInformation(); "
    f"raise SystemExit(not pipelines or sys.version_info[:2] != {sys.version_info[:2]})"
)
# ONNX Runtime is ours; Debian's numpy and OpenCV come first.
AGENT = "import sys; bundle, packages = sys.argv[1:3]; sys.path.insert(0, bundle); sys.path.append(packages); " + (
    "from slimdeploy.board.agent import main; sys.exit(main(sys.argv[3:]))"
)
PICTURE = "videotestsrc is-live=true pattern=red ! video/x-raw,width=192,height=128,framerate=25/1"


@pytest.fixture
def run(bundle, tmp_path):
    """Run the agent on a pipeline; gives (exit code, its lines, its stderr)."""
    if subprocess.run([DEBIANS, "-c", ASKED], capture_output=True).returncode:
        pytest.skip("no OpenCV with GStreamer for this Python here: apt install python3-opencv")

    def run(*arguments):
        packages = str(Path(onnxruntime.__file__).parents[1])
        argv = [DEBIANS, "-c", AGENT, str(bundle / "agent.pyz"), packages, "run", "--bundle", str(bundle), *arguments]
        ended = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=120)
        return ended.returncode, [one for one in ended.stdout.splitlines() if one.startswith("{")], ended.stderr

    return run


def test_frames_of_a_pipeline_are_looked_at(run):
    code, lines, err = run(PICTURE, "--frames", "3")
    assert code == 0, err
    seen = [json.loads(line) for line in lines]
    assert [(line["source"], line["size"]) for line in seen] == [("pipeline", [128, 192])] * 3
    assert {box["class"] for box in seen[-1]["boxes"]} == {"red"}


def test_a_pipeline_that_gives_no_frame_is_told_and_ends_when_patience_does(run):
    code, lines, err = run("nosuchelement ! fakesink", "--patience", "1")
    assert (code, lines) == (4, [])
    assert "gave no frame within 1 s" in err
    assert "nosuchelement ! fakesink gives no frame" in err or "went away" in err

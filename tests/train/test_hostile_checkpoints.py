"""Checkpoints that an attacker wrote: each is refused with its reason, and runs, opens, asks and takes nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import hostile_pickles
import pytest

ROOM = 256 << 20  # bytes of memory that a refusal may take besides twelve times the file's length

# Loads every file in one process, in which every event that Python can audit is written down.
LOADS = """
import json, resource, sys
import torchvision.transforms.transforms  # a name of it imports it
from pathlib import Path
from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import checkpoint

WATCHED = ("open", "import", "exec", "compile", "socket", "subprocess", "os", "pty", "ctypes", "shutil", "urllib",
           "http", "glob", "tempfile", "pickle")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def audit(event, args):
    if path is None or event.split(".")[0] not in WATCHED:
        return
    if event != "open" or not (str(args[0]) == path or isinstance(args[0], int)):
        events.append(event + " " + ascii(args)[:200])

path, events = None, []
good, files = json.loads(sys.stdin.read())
checkpoint.load(Path(good))  # what is imported late is imported now, and two codecs
"\\0".encode("unicode_escape").decode("cp437")
sys.addaudithook(audit)
for kind, name in files.items():
    before, path, events = peak(), name, []
    try:
        checkpoint.load(Path(name))
        answer, text = "loaded", ""
    except CheckpointError as error:
        answer, text = "refused", str(error)
    except BaseException as error:
        answer, text = type(error).__name__, str(error)
    path = None
    print(json.dumps([kind, {"answer": answer, "text": text, "events": events, "grown": peak() - before}]), flush=True)
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Where code from a file would make a folder."""
    return tmp_path_factory.mktemp("hostile-ran") / "it-ran"


@pytest.fixture(scope="module")
def files(tmp_path_factory, ran):
    """Every hostile file by its kind, the smallest first, so that peaks of memory show one after the other."""
    paths = hostile_pickles.write_all(tmp_path_factory.mktemp("hostile"), ran)
    return dict(sorted(paths.items(), key=lambda item: _length(item[1])))


@pytest.fixture(scope="module")
def answers(files, tiny_weights):
    """What loading each file gave, by its kind."""
    asked = json.dumps([str(tiny_weights), {kind: str(path) for kind, path in files.items()}])
    done = subprocess.run([sys.executable, "-c", LOADS], input=asked, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr[-2000:])
    return dict(map(json.loads, done.stdout.splitlines()))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def test_there_are_many_kinds(files, answers):
    assert len(files) > 140
    assert list(answers) == list(files)


def test_every_file_is_refused_with_an_error_of_slimdeploys_own(answers):
    assert {kind: (a["answer"], a["text"]) for kind, a in answers.items() if a["answer"] != "refused"} == {}


def test_no_file_opens_another_reaches_a_network_imports_or_runs_anything(answers, ran):
    assert {kind: a["events"] for kind, a in answers.items() if a["events"]} == {}
    assert not ran.exists()


def test_no_file_takes_much_more_memory_than_it_is_long(answers, files):
    allowed = {kind: ROOM + 12 * min(_length(path), 1 << 30) for kind, path in files.items()}
    large = {kind: a["grown"] >> 20 for kind, a in answers.items() if a["grown"] > allowed[kind]}
    assert large == {}


def test_every_reason_is_one_short_line_without_control_characters(answers):
    odd = {kind: a["text"][:300] for kind, a in answers.items() if not a["text"].isprintable() or len(a["text"]) > 700}
    assert odd == {}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("code: os.system", r"names os\.system, which is no tensor and no known torch or ultralytics class.*--trust"),
        ("code: a name with dots", r"names torch\.os\.system, which is no tensor"),
        ("code: DetectionModel(file)", r"asks to call ultralytics\.nn\.tasks\.DetectionModel while it is opened"),
        ("code: Conv2d called", r"asks to call torch\.nn\.modules\.conv\.Conv2d while it is opened"),
        ("code: a layer in place of a method", r"replaces Conv2d\.forward by a stored Identity"),
        ("code: an extension code", r"holds the pickle instruction 0x82"),
        ("size: 100,000 layers", r"holds more than 10,000 layers"),
        ("size: a list that holds itself", r"holds a value that contains itself"),
        ("size: a billion values in few bytes", r"unfolds to more than 4,000,000 values"),
        ("size: tuples nested 20,000 times", r"nests values more than 120 levels deep"),
        ("size: layers that double 60 times", r"unfolds to more than|nests values"),
        ("size: a compressed bomb", r"is a compressed archive"),
        ("size: another byte order", r"another byte order"),
        ("size: a TorchScript archive", r"is a TorchScript archive"),
        ("size: the tar format of torch 0.1", r"the tar format of torch 0\.1"),
        ("size: a description of 20 MB", r"describes its network in too many bytes; wanted: 16 MiB"),
        ("size: one storage lent 1,000 times", r"truncated, damaged or no checkpoint"),
        ("size: one buffer in 200 places", r"uses its numbers many times over"),
        ("file: folder", r"no checkpoint at .*: it is a folder"),
        ("file: pipe", r"no checkpoint at .*: it is a named pipe"),
        ("file: device", r"no checkpoint at .*: it is a device"),
        ("file: huge", r"is 1024\.0 GiB large"),
        ("file: loop", r"Too many levels of symbolic links"),
        ("file: dangling", r"no checkpoint at"),
    ],
)
def test_the_reason_is_the_true_one(answers, kind, reason):
    assert re.search(reason, answers[kind]["text"]), answers[kind]["text"]

"""Whatever a host asks, the board answers with what it did or with an error of its own, and the session goes on."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from slimdeploy.board import receive, requests, session
from slimdeploy.board.session import MARK, Session, answer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux")
NAME = "a" * 64
HOW = {"precision": "fp32", "budget_s": 0.1, "calls": [1, 2]}
VALID = {
    "ping": {},
    "begin": {"name": NAME, "files": {"model.onnx": 5}, "spare_bytes": 0},
    "stage": {"name": NAME, "timeouts_s": {"build": 1.0, "check": 1}},
    "activate": {"name": NAME, "keep": 2},
    "bench": {"name": NAME, "limit_s": 5.0, "options": ["--samples", "3", "--threads", "1"]},
    "time": {"limit_s": 5, "threads": 1, "how": HOW, "graph": "", "file": NAME},
    "forget": {"name": NAME},
    "rollback": {},
    "prune": {"keep": 0},
    "install_service": {"source": "flight.mp4", "udev": False, "start": False},
    "remove_service": {},
}
ODD = (
    None, True, -1, 2, 10**400, 1e308, "", "x", "../../x", "a\nb", "\u2028", "\ud800", "\0", [], [None], [[]], {},
    {"": 1},
    {"a": -1}, {"a": "1"}, {"../x": 1}, ["--cache", "/etc"], "/etc", 0.5,
)  # fmt: skip


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A session over an empty folder, and what it answers to one line."""
    monkeypatch.setattr(receive, "SYSTEM_SIGNERS", tmp_path / "etc" / "allowed_signers")
    with contextlib.ExitStack() as closing:
        opened = Session(str(tmp_path / "board"), closing)
        yield lambda line: answer(opened, line)


def request(do: str, **arguments) -> bytes:
    return json.dumps({"do": do, **arguments}).encode()


LINES = {
    "empty": b"", "a line end": b"\n", "a list": b"[]", "an object": b"{}", "no UTF-8": b"\xff\n", "a number": b"5",
    "null": b"null", "a word": b"ping", "cut off": b'{"do": "ping"', "do is a list": b'{"do": []}',
    "do is an object": b'{"do": {}}', "unknown": b'{"do": "fly"}', "private": b'{"do": "_timer", "threads": 1}',
    "root": b'{"do": "root"}', "deep": b'{"do": ' + b"[" * 100_000, "NaN": b'{"do": "prune", "keep": NaN}',
    "infinity": b'{"do": "prune", "keep": 1e999}', "long number": b'{"do": "prune", "keep": ' + b"9" * 6000 + b"}",
    "self": b'{"do": "ping", "self": 1}', "escapes": b'{"do": "\\u001b[2J"}',
}  # fmt: skip


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_line_that_is_no_request_is_answered_with_an_error(board, line):
    told = board(line)
    assert (told["error"], told["exit_code"]) == ("UsageError", 2)
    assert str(told["wrong"]).isprintable()


@pytest.mark.parametrize("do", VALID)
def test_a_request_that_lacks_an_argument_or_has_one_too_many_is_refused(board, do):
    for name in VALID[do]:
        if name in ("graph", "file"):
            continue  # either may be left out
        told = board(request(do, **{key: value for key, value in VALID[do].items() if key != name}))
        assert told["wrong"] == f"{do} lacks {name}"
    assert board(request(do, **VALID[do], more=1))["wrong"] == f"{do} takes no 'more'"


def test_every_argument_of_every_request_is_checked(board, tmp_path):
    refused = 0
    for do, arguments in VALID.items():
        for name, odd in ((name, odd) for name in arguments for odd in ODD):
            told = board(request(do, **{**arguments, name: odd}))
            refused += "error" in told
            assert "error" in told or requests.REQUESTS[do][name].holds(odd), (do, name, odd)
    assert refused > 300
    assert [path.name for path in tmp_path.iterdir()] in ([], ["board"])


def test_mutated_requests_lead_to_answers_alone(board, tmp_path):
    chance = random.Random(0)
    lines = [request(do, **arguments) for do, arguments in VALID.items()]
    for _ in range(3000):
        line = bytearray(chance.choice(lines))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(line))
            line[place : place + chance.randint(0, 3)] = chance.choice(
                [b"", b"{", b'"', b"\xff", b"0", b"null", b"]", b"-1"]
            )
        told = board(bytes(line))
        assert isinstance(told, dict)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["board"])


@pytest.mark.parametrize(
    "name",
    ["../../../../x/y", "/tmp/x/y", "a/../../x", ".hidden", "-rf", "", "a//b", "a\nb", "a b", "a\\b", "a" * 300, "a/"],
)
def test_a_name_that_leads_outside_makes_no_folder(board, tmp_path, name):
    told = board(request("begin", name=NAME, files={name: 1}, spare_bytes=0))
    assert told["wrong"] == "files of begin is an object that cannot be used"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [-1, 2**70, 10**400, 1.5, "1", None, True])
def test_a_size_that_is_none_is_refused(board, size):
    assert "error" in board(request("begin", name=NAME, files={"a": size}, spare_bytes=0))


def test_a_file_that_would_be_the_folder_of_another_is_refused(board):
    assert "error" in board(request("begin", name=NAME, files={"a": 1, "a/b": 1}, spare_bytes=0))


def test_what_was_planted_as_a_link_is_removed_before_files_come(board, tmp_path):
    (tmp_path / "outside").mkdir()
    staging = tmp_path / "board" / "staging" / NAME / "bundle"
    staging.mkdir(parents=True)
    (staging / "golden").symlink_to(tmp_path / "outside")
    told = board(request("begin", name=NAME, files={"golden/image.png": 5}, spare_bytes=0))
    assert told["received"] == {}
    assert not (staging / "golden").is_symlink()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_compressed_graph_that_grows_too_large_is_refused(board, monkeypatch):
    monkeypatch.setattr(session, "GRAPH_LIMIT_BYTES", 1 << 20)
    bomb = base64.b64encode(zlib.compress(bytes(32 << 20))).decode("ascii")
    told = board(request("time", limit_s=5, threads=1, how=HOW, graph=bomb))
    assert "cut off or too large" in told["wrong"]


@pytest.mark.parametrize("graph", ["", "no base64", "AAAA", base64.b64encode(zlib.compress(b"x" * 99)[:9]).decode()])
def test_a_graph_that_cannot_be_unpacked_is_refused(board, graph):
    assert board(request("time", limit_s=5, threads=1, how=HOW, graph=graph))["error"] == "UsageError"


def test_a_file_to_time_that_was_not_sent_is_told(board):
    assert "was not sent" in board(request("time", limit_s=5, threads=1, how=HOW, file=NAME))["wrong"]


def test_a_line_that_is_too_long_is_read_past_and_the_next_is_answered():
    stream = io.BytesIO(b"x" * 1000 + b"\n" + b"next\n")
    assert session._line(stream, 100) is None
    assert session._line(stream, 100) == b"next\n"
    assert session._line(stream, 100) == b""


def test_a_session_answers_one_request_after_another_whatever_they_are(tmp_path):
    lines = [b"\xff", b"[]", b"{}", b"", b'{"do": "begin", "files": {"../x": 1}}', b'{"do": "ping"}']
    code = f"from slimdeploy.board.session import serve; serve({str(tmp_path / 'board')!r})"
    root = str(Path(__file__).parents[3])
    ended = subprocess.run(
        [sys.executable, "-c", code], input=b"\n".join(lines) + b"\n", capture_output=True, cwd=root, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    answers = [json.loads(line[len(MARK) :]) for line in ended.stdout.decode().split("\n") if line]
    assert ["error" in one for one in answers] == [True] * 5 + [False]

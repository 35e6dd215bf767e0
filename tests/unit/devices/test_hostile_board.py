"""A board that answers anything but what was asked harms no host: it fails alone, in one line, within bounds."""

from __future__ import annotations

import json
import random
import resource
import sys
import threading

import pytest

from slimdeploy.board.session import MARK
from slimdeploy.configs import FleetConfig, ShipConfig
from slimdeploy.devices import answers, session
from slimdeploy.devices.address import parse_address
from slimdeploy.devices.fleet import FleetBoard
from slimdeploy.devices.session import BoardSession
from slimdeploy.devices.streams import TooLong, marked_lines
from slimdeploy.devices.transfer import _quoted
from slimdeploy.errors import DeviceError
from slimdeploy.stages.fleet import ask_fleet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a shebang")
NAME = "a" * 64
LOOK = {
    "root": "/r", "current": None, "previous": None, "releases": [], "free_bytes": 5, "tensorrt": "10.3.0",
    "board": {"model": None, "compatible": [], "parts": []}, "simulated": False, "clock_s": 1.0, "python": "3.10",
    "rsync": True, "signers": None, "service": None,
}  # fmt: skip
VALID = {
    "look": LOOK,
    "begin": {"present": False, "received": {"a": 1}, "folder": f"/r/staging/{NAME}/bundle"},
    "stage": {"release": NAME, "signed_by": None, "build": {}, "check": {}},
    "activate": {"current": NAME, "previous": None, "removed": [NAME]},
    "rollback": {"current": NAME, "previous": None, "damaged": [{"release": NAME, "wrong": "x"}]},
    "time": {"samples_s": [0.1], "backend": "onnxruntime", "version": "1", "threads": 1},
    "prune": {"removed": [], "freed_bytes": 0, "current": None},
}


@pytest.fixture
def make_board(tmp_path):
    """Make a board whose Python is a script that says what the test wants; gives a config that reaches it."""

    def make(script: str, **more) -> ShipConfig:
        path = tmp_path / "python"
        path.write_text(
            f"#!{sys.executable}\nimport os, sys, time\nout = sys.stdout.buffer\n{script}", encoding="utf-8"
        )
        path.chmod(0o755)
        return ShipConfig(python=str(path), **{"answer_timeout_s": 20.0, **more})

    return make


def saying(line: bytes) -> str:
    return f"out.write({line!r})\nout.flush()\nsys.stdin.buffer.read()\n"


def ask(config: ShipConfig, do: str = "look", **request):
    with BoardSession(parse_address("local:/r"), config, b"agent") as board:
        return board.ask(do, **request)


def answer(told: object) -> bytes:
    return MARK.encode() + json.dumps(told).encode() + b"\n"


LINES = {
    "no JSON": MARK.encode() + b"{\n", "no UTF-8": MARK.encode() + b"\xff\n", "a list": answer([]),
    "null": answer(None), "no facts": answer({}), "deep": MARK.encode() + b"[" * 100_000 + b"\n",
    "deep and closed": MARK.encode() + b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}\n",
    "an error without a reason": answer({"error": "DeviceError"}), "an error of another type": answer({"error": 5}),
    "a reason that is none": answer({"error": "E", "wrong": [], "wanted": {}, "do": None}),
    "NaN": MARK.encode() + b'{"clock_s": NaN}\n', "infinite": MARK.encode() + b'{"clock_s": 1e999}\n',
    "long number": MARK.encode() + b'{"clock_s": ' + b"9" * 6000 + b"}\n",
    "two answers at once": answer({}) * 50,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_an_answer_that_is_none_is_an_error_of_the_board(make_board, line):
    with pytest.raises(DeviceError, match="local:/r") as failed:
        ask(make_board(saying(line)))
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 1000


def test_every_fact_of_an_answer_is_checked():
    chance, odd = random.Random(0), (None, True, -1, "x", "a\nb", [], {}, 1e308, [None], {"a": []}, 10**30)
    for do, told in VALID.items():
        assert answers.parse(json.dumps(told).encode(), do, {"name": NAME}) == told
        for key in told:
            assert_refused({name: value for name, value in told.items() if name != key}, do)
        for _ in range(300):
            changed = {**told, chance.choice(list(told)): chance.choice(odd)}
            try:
                answers.parse(json.dumps(changed).encode(), do, {"name": NAME})
            except ValueError:
                continue
            assert answers.problem(changed, answers.ANSWERS[do], "it") == ""


def assert_refused(told, do):
    with pytest.raises(ValueError, match="has no"):
        answers.parse(json.dumps(told).encode(), do, {"name": NAME})


@pytest.mark.parametrize("folder", ["/etc", "x", f"/r/staging/{'b' * 64}/bundle", f"r/staging/{NAME}/bundle"])
def test_a_board_does_not_choose_another_folder_for_what_comes(folder):
    told = {**VALID["begin"], "folder": folder}
    with pytest.raises(ValueError, match="its folder is"):
        answers.parse(json.dumps(told).encode(), "begin", {"name": NAME})


def test_control_characters_of_a_board_do_not_reach_the_terminal(make_board):
    model = {**LOOK, "board": {**LOOK["board"], "model": "\x1b[2J\u202eTitan\nno"}}
    assert ask(make_board(saying(answer(model))))["board"]["model"] == "\\x1b[2J\\u202eTitan\\nno"
    refused = {"error": "E", "wrong": "\x1b]0;pwned\x07", "wanted": "\x9b", "do": "a\r\nb"}
    with pytest.raises(DeviceError) as failed:
        ask(make_board(saying(answer(refused))))
    assert str(failed.value).isprintable()


def test_what_a_board_says_on_stderr_is_shown_escaped_and_short(make_board):
    with pytest.raises(DeviceError, match="broke during") as failed:
        ask(make_board("sys.stderr.write('\\x1b[31m' + 'x' * 10**6)\nos._exit(255)"))
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 1500


FLOODS = {
    "stdout without a line end": "while True: out.write(b'x' * 65536)",
    "an answer without an end": f"out.write({MARK.encode()!r})\nwhile True: out.write(b'x' * 65536)",
    "lines that are no answers": "while True: out.write(b'x\\n' * 32768)",
    "answers without end": f"while True: out.write({answer({})!r} * 1000)",
    "stderr without a line end": "while True: os.write(2, b'x' * 65536)",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_output_without_end_costs_bounded_memory_and_ends_in_time(make_board, monkeypatch, flood):
    monkeypatch.setattr(session, "ANSWER_LIMIT_BYTES", 1 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DeviceError, match=r"cannot be used|gave no answer"):
        ask(make_board(flood, answer_timeout_s=1.5))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_board_that_reads_nothing_is_given_up(make_board):
    config = make_board("time.sleep(60)", answer_timeout_s=1.0)
    with (
        pytest.raises(DeviceError, match="gave no answer"),
        BoardSession(parse_address("local:/r"), config, bytes(4 << 20)) as board,
    ):
        board.ask("look")


def test_a_board_that_says_nothing_more_and_stays_is_given_up(make_board, monkeypatch):
    monkeypatch.setattr(session, "CLOSE_S", 0.2)
    with pytest.raises(DeviceError, match="broke during 'look'"):
        ask(make_board("os.close(1)\ntime.sleep(60)"))


def test_one_such_board_ends_no_command_for_the_others(make_board, tmp_path):
    root = "sys.argv[2].partition('serve(')[2].partition(',')[0]"
    good, bad = answer(LOOK), answer({"current": "\x1b[2J", "releases": 5})
    config = make_board(f"out.write({bad!r} if 'bad' in {root} else {good!r})\nout.flush()\nsys.stdin.buffer.read()\n")
    boards = [FleetBoard(name=name, address=parse_address(f"local:/{name}")) for name in ("one", "bad", "two")]
    results = ask_fleet(boards, FleetConfig(ship=config), "look")
    assert ["error" in one for one in results] == [False, True, False]


def test_a_line_that_begins_as_an_answer_and_does_not_end_is_not_kept():
    class Endless:
        def read(self, size):
            return b"mark " + bytes(size - 5)

    with pytest.raises(TooLong):
        list(marked_lines(Endless(), b"mark ", 1 << 20))


def test_answers_are_found_however_they_are_cut():
    class Cut:
        def __init__(self, text, sizes):
            self.text, self.sizes = text, sizes

        def read(self, _):
            size = self.sizes.pop(0) if self.sizes else len(self.text)
            block, self.text = self.text[:size], self.text[size:]
            return block

    text = b"hello\nmark 1\nmar\nmark 2\r\nmark \n marks\nmark 3"
    for cut in range(1, len(text)):
        assert list(marked_lines(Cut(text, [cut]), b"mark ", 100)) == [b"1", b"2\r", b""]


@pytest.mark.parametrize("name", ["a\nrm /", "a\r", "a\0b"])
def test_a_path_with_a_line_end_does_not_come_into_a_batch_of_sftp(name):
    with pytest.raises(DeviceError, match="sftp cannot send"):
        _quoted(name)


def test_no_thread_is_left_behind(make_board):
    before = threading.active_count()
    ask(make_board(saying(answer(LOOK))))
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(5)
    assert threading.active_count() <= before

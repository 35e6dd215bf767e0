"""A latency table is measured on a board through a real sshd, goes on after a break, and tells of its board."""

from __future__ import annotations

import json

import pytest
from sshd_board import descendants, kill, when

from slimdeploy.configs import LatencyConfig, ShipConfig
from slimdeploy.devices.address import parse_address
from slimdeploy.errors import DeviceError, OutputExists, UsageError
from slimdeploy.latency.table import read_table
from slimdeploy.stages._timers import Board
from slimdeploy.stages.latency import latency
from slimdeploy.targets import load_target

for name in ("torch", "ultralytics", "onnxruntime"):
    pytest.importorskip(name, reason="the extra train is not installed")

TARGET = load_target("orin-nano-8gb")
CONFIG = LatencyConfig(imgsz=64, alignment=64, layer_s=0.001, wholes=2, samples=6, threads=1)  # few shapes, so quick


@pytest.fixture
def board(make_board):
    """A board that this process may ask, as the desk."""
    board = make_board()
    board.on = Board(address=parse_address(board.address), shipping=ShipConfig(connect_timeout_s=20))
    return board


def test_a_table_comes_home_with_raw_samples_and_says_that_its_board_is_simulated(board, tmp_path):
    out = tmp_path / "table.json"
    table = read_table(latency(None, TARGET, CONFIG, out, board=board.on))
    assert (table.device, table.simulated, table.backend, table.here) == (board.address, True, "onnxruntime", False)
    assert "a simulated board and no Jetson" in table.source
    assert "(simulated board)" in table.environment["board"]["model"]
    assert len(table.wholes) == 2
    _, *rows = [json.loads(line) for line in (tmp_path / "table.samples.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == sum(len(times) for times in table.layers.values())
    assert all(len(row["samples_s"]) == row["calls"] >= 8 for row in rows)
    assert list(board.root.glob("staging/*")) == []
    with pytest.raises(UsageError, match="measured with onnxruntime"):
        table.require_made_for(TARGET, "fp32")  # so that no plan for a Jetson rests on it


def test_a_broken_connection_is_told_and_the_same_command_goes_on_from_there(board, tmp_path):
    out = tmp_path / "table.json"
    progress = tmp_path / ".table.json.progress"

    def measured() -> int:
        return len(progress.read_text(encoding="utf-8").splitlines()) if progress.exists() else 0

    cut = when(lambda: measured() > 5, lambda: kill(descendants(board.process.pid)))
    with pytest.raises(DeviceError, match="broke during 'time'"):
        latency(None, TARGET, CONFIG, out, board=board.on)
    cut.join()
    before = progress.read_text(encoding="utf-8")
    latency(None, TARGET, CONFIG, out, board=board.on)
    assert (tmp_path / "table.samples.jsonl").read_text(encoding="utf-8").startswith(before)
    assert not progress.exists()


def test_a_board_that_is_another_one_is_refused_and_nothing_is_written(board, tmp_path):
    with pytest.raises(DeviceError, match="is another board"):
        latency(None, load_target("nano"), CONFIG, tmp_path / "table.json", board=board.on)
    assert [one.name for one in tmp_path.iterdir()] == ["board"]


def test_samples_that_exist_are_not_overwritten(board, tmp_path):
    (tmp_path / "table.samples.jsonl").touch()
    with pytest.raises(OutputExists):
        latency(None, TARGET, CONFIG, tmp_path / "table.json", board=board.on)


def test_a_device_that_is_no_address_is_told(slimdeploy, tmp_path):
    code, _, stderr = slimdeploy(
        "latency", "--target", "orin-nano-8gb", "--device", "drone", "--out", tmp_path / "table.json"
    )
    assert (code, "the address 'drone' is none of a board" in stderr) == (2, True), stderr

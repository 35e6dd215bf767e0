"""Bundles are measured on a board, and what comes home is a bench folder like any other; what flies there stays."""

from __future__ import annotations

import json


def test_the_raw_samples_of_a_board_come_home_and_what_flies_stays(make_board, make_bundle, slimdeploy, tmp_path):
    board = make_board()
    assert slimdeploy("ship", make_bundle(b"old"), "--to", board.address)[0] == 0
    bundles = (make_bundle(b"one"), make_bundle(b"two"))
    out = tmp_path / "bench"
    code, _, stderr = slimdeploy("bench", *bundles, "--device", board.address, "--samples", "12", "--out", out)
    assert code == 0, stderr
    results = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert "a simulated board: no figure is a board's" in results["notes"][0]
    rows = results["rows"]
    assert [(row["name"], len(row["latency"]["samples_s"])) for row in rows] == [(one.name, 12) for one in bundles]
    telemetry = json.loads((out / "telemetry.json").read_text(encoding="utf-8"))["by_row"]
    assert {row: known["mean_power_mw"] for row, known in telemetry.items()} == {one.name: 5000 for one in bundles}
    assert board.model() == b"old"


def test_a_measurement_that_is_none_leaves_no_folder(make_board, make_bundle, slimdeploy, tmp_path):
    board = make_board(environment={"STAND_IN": "bench"})
    out = tmp_path / "bench"
    code, _, stderr = slimdeploy("bench", make_bundle(b"one"), "--device", board.address, "--out", out)
    assert (code, "measurement" in stderr, out.exists()) == (4, True, False), stderr


def test_accuracy_is_not_scored_on_a_board(make_bundle, slimdeploy, tmp_path):
    out = tmp_path / "bench"
    code, _, stderr = slimdeploy(
        "bench", make_bundle(b"one"), "--device", "ssh://drone", "--data", tmp_path / "data.yaml", "--out", out
    )
    assert (code, "--data with --device" in stderr) == (2, True), stderr

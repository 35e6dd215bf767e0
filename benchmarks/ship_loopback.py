"""How long a ship takes to a board on this machine, behind a real sshd: sent, verified, built, checked, activated.

    python benchmarks/ship_loopback.py BUNDLE --save

Whole processes of `slimdeploy ship`, each to a board that has nothing yet. The engine is ONNX Runtime on this machine's
CPU, and the board a simulated one: no figure here is a Jetson's.

Bar: 15 s for a bundle of 12 MB, the slowest of 5.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.board.whole import bundle_hash, size_bytes
from slimdeploy.bundle.pack import verify
from slimdeploy.lineage import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the board that the tests ship to
from sshd_board import Board, write_script

NAME = "ship_loopback"
BAR_S = 15.0
PROCESSES = 5
SHIP = "from slimdeploy.cli import main; main()"


def ship_once(board: Board, bundle: Path, number: int) -> dict[str, Any]:
    """Ship to a folder of the board that is not there yet; return seconds of the whole process and of its parts."""
    command = [sys.executable, "-c", SHIP, "ship", str(bundle), "--to", f"{board.address}-{number}", "--json"]
    settings = {**os.environ, "PATH": f"{board.folder / 'desk_bin'}:{os.environ['PATH']}"}
    started = time.perf_counter()
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=settings)
    taken_s = time.perf_counter() - started
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    done = json.loads(ended.stdout)
    return {"seconds": taken_s, "parts_s": done["seconds"], "sent": done["sent"]}


def start_board(folder: Path) -> Board:
    """Start a board, and an ssh in a folder of its own that knows it as `drone`."""
    board = Board(folder)
    (folder / "ssh_config").write_text(board.ssh_config(), encoding="utf-8")
    (folder / "desk_bin").mkdir()
    write_script(folder / "desk_bin" / "ssh", f'exec /usr/bin/ssh -F {folder / "ssh_config"} "$@"')
    return board


def main() -> None:
    """Ship some times, print the slowest beside its bar, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder; the bar is for 12 MB")
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    manifest = verify(asked.bundle)
    with tempfile.TemporaryDirectory(prefix="slimdeploy-") as folder:
        board = start_board(Path(folder))
        try:
            runs = [ship_once(board, asked.bundle, number) for number in range(PROCESSES)]
        finally:
            board.stop()
    slowest_s, megabytes = max(run["seconds"] for run in runs), size_bytes(manifest) / 1e6
    verdict = "met" if slowest_s <= BAR_S else "NOT met"
    print(f"{megabytes:.1f} MB shipped in {slowest_s:.2f} s at most, {PROCESSES} times, bar {BAR_S:g} s: {verdict}")
    if asked.save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "bar_s": BAR_S,
            "bundle": bundle_hash(asked.bundle),
            "bundle_bytes": size_bytes(manifest),
            "slowest_s": slowest_s,
            "runs": runs,
            "board": "simulated: a real sshd on the same machine, ONNX Runtime on its CPU",
            "environment": environment(),
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

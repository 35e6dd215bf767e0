"""How long the demo takes from nothing, once installed: rendering, training, pruning, export, measuring, report.

    python benchmarks/demo_time.py --save

Bar: 8 minutes on 2 cores. The result also keeps the demo's table, so that a slow run and a poor one both show.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.lineage import write_json

NAME = "demo_time"
BAR_S = 480.0
COMMAND = [sys.executable, "-c", "from slimdeploy.cli import main; main()", "demo", "--json", "--out"]


def main() -> None:
    """Run the demo in a process of its own, and say whether it met its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write the result to benchmarks/results/")
    options = parser.parse_args()
    before = environment()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        ran = subprocess.run([*COMMAND, str(Path(folder) / "demo-run")], stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
    report = json.loads(ran.stdout)
    print(f"the demo took {seconds:.0f} s, bar {BAR_S:.0f} s: {'met' if seconds <= BAR_S else 'NOT met'}")
    print(report["headline"])
    if options.save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "command": "slimdeploy demo",
            "bar_s": BAR_S,
            "seconds": round(seconds, 1),
            "headline": report["headline"],
            "table": report["table"],
            "environment": before,
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

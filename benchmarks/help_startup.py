"""How long a user waits for `slimdeploy --help`, as a whole process.

    python benchmarks/help_startup.py --save

Bar: 0.4 s, the median of 20 processes, after one that warms the file cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.lineage import write_json

NAME = "help_startup"
BAR_S = 0.4
PROCESSES = 20


def command() -> list[str]:
    """Return the installed console script, as a user runs it; or the same through Python where it is not there."""
    script = Path(sys.executable).with_name("slimdeploy.exe" if sys.platform == "win32" else "slimdeploy")
    if script.exists():
        return [str(script), "--help"]
    return [sys.executable, "-c", "from slimdeploy.cli import main; main()", "--help"]


def time_one(argv: list[str]) -> tuple[float, float]:
    """Return the seconds from the start of a process to its end, and those of CPU that it took (0 on Windows)."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    taken_s, after = time.perf_counter() - started, os.times()
    return taken_s, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Time the processes, print the median, and write the result where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    save = parser.parse_args().save
    argv = command()
    time_one(argv)
    samples_s, cpu_s = zip(*(time_one(argv) for _ in range(PROCESSES)), strict=True)
    median_s = statistics.median(samples_s)
    verdict = "met" if median_s <= BAR_S else "NOT met"
    print(f"slimdeploy --help: median {median_s:.3f} s of {PROCESSES} processes, bar {BAR_S} s: {verdict}")
    print(f"range {min(samples_s):.3f} to {max(samples_s):.3f} s; CPU time, median {statistics.median(cpu_s):.3f} s")
    if save:
        record = {
            "schema": 1,
            "benchmark": NAME,
            "command": " ".join(["slimdeploy" if argv[0].endswith(("slimdeploy", ".exe")) else "python", *argv[1:]]),
            "bar_s": BAR_S,
            "median_s": median_s,
            "samples_s": samples_s,
            "cpu_s": cpu_s,
            "environment": environment(),
        }
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

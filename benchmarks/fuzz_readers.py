"""Feed mutated inputs to every reader of files, requests and addresses; none may fail, hang or write outside.

Each reader runs in a process of its own, so that a crash of a native library counts as what it is. Usage:

    python benchmarks/fuzz_readers.py [--inputs 100000] [--seed 0] [--only NAME] [--out results.json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout's package
from _results import result_path
from fuzzing.mutations import mutate
from fuzzing.oracle import Watch, judge
from fuzzing.readers import READERS, Reader, clear

SHOWN = 20  # different failures of a reader that a result names
KINDS = ("read", "refused", "foreign", "hang", "outside")


def try_reader(reader: Reader, inputs: int, seed: int, progress: Path) -> dict[str, Any]:
    """Feed a reader and return what came of it; `progress` holds the last input, should the process die."""
    counts, failures, examples = Counter[str](), Counter[str](), {}
    watch = Watch()
    watch.programs = reader.programs
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        scratch, work = Path(place) / "tmp", Path(place) / "work"
        scratch.mkdir()
        work.mkdir()
        known = reader.seeds()
        for raw in known:  # imports and caches first: they are no input's time, and write where they please
            clear(work)
            judge(lambda raw=raw: reader.read(raw, work), watch=watch, inside=(Path("/"),), limit_s=300.0)
        tempfile.tempdir = str(scratch)
        started = time.perf_counter()
        for number in range(inputs):
            chance = random.Random(f"{seed}/{reader.name}/{number}")
            raw = mutate(chance.choice(known), reader.kinds, chance)
            progress.write_bytes(raw)
            clear(work)
            outcome = judge(
                lambda raw=raw: reader.read(raw, work), watch=watch, inside=(work, scratch), limit_s=reader.limit_s
            )
            counts[outcome.kind] += 1
            if outcome.kind not in ("read", "refused"):
                failures[f"{outcome.kind}: {outcome.detail}"] += 1
                examples.setdefault(outcome.detail, number)
        seconds = time.perf_counter() - started
    named = {
        detail: {"times": times, "input": examples[detail.partition(": ")[2]]}
        for detail, times in failures.most_common(SHOWN)
    }
    return {**{kind: counts[kind] for kind in KINDS}, "inputs": inputs, "seconds": round(seconds, 1), "failures": named}


def in_own_process(reader: Reader, inputs: int, seed: int) -> dict[str, Any]:
    """Return what a reader did, or how its process ended."""
    with tempfile.TemporaryDirectory(prefix="fuzz-parent-") as place:
        answer, last = Path(place) / "answer.json", Path(place) / "last"
        command = [
            sys.executable, __file__, "--child", reader.name, "--inputs", str(inputs), "--seed", str(seed),
            "--out", str(answer), "--last", str(last),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        if ended.returncode == 0 and answer.is_file():
            return json.loads(answer.read_text(encoding="utf-8"))
        said = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
        crash = f"foreign: the process ended with {ended.returncode} and said {said[0][:200]}"
        found = {
            **dict.fromkeys(KINDS, 0),
            "foreign": 1,
            "inputs": inputs,
            "seconds": 0.0,
            "failures": {crash: {"times": 1}},
        }
        return found | ({"last_input": last.read_bytes()[:2000].hex()} if last.is_file() else {})


def shares(total: int, readers: tuple[Reader, ...]) -> dict[str, int]:
    """Return how many inputs each reader gets, so that together they get `total` or a few more."""
    weight = sum(reader.share for reader in readers)
    return {reader.name: max(5, -(-int(total * reader.share * 1000) // int(weight * 1000))) for reader in readers}


def main() -> int:
    """Feed all readers, show what came of it, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose names hold this")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--last", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.child:
        (reader,) = (one for one in READERS if one.name == asked.child)
        found = try_reader(reader, asked.inputs, asked.seed, asked.last)
        asked.out.write_text(json.dumps(found), encoding="utf-8")
        return 0
    readers = tuple(one for one in READERS if asked.only in one.name)
    counts = shares(asked.inputs, readers)
    started = time.perf_counter()
    found = {}
    for reader in readers:
        found[reader.name] = one = in_own_process(reader, counts[reader.name], asked.seed)
        print(f"{reader.name:32} {' '.join(f'{kind} {one[kind]}' for kind in KINDS)}  {one['seconds']} s", flush=True)
        for detail, known in one["failures"].items():
            print(f"    {known['times']} times, first input {known.get('input')}: {detail}", flush=True)
    totals = {kind: sum(one[kind] for one in found.values()) for kind in (*KINDS, "inputs")}
    result = {
        "benchmark": "fuzz_readers", "seed": asked.seed, "inputs": totals["inputs"], "read": totals["read"],
        "refused": totals["refused"], "foreign_exceptions": totals["foreign"], "hangs": totals["hang"],
        "files_outside": totals["outside"], "seconds": round(time.perf_counter() - started, 1), "readers": found,
    }  # fmt: skip
    print({key: value for key, value in result.items() if key != "readers"})
    out = asked.out or result_path("fuzz-readers")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(bool(totals["foreign"] or totals["hang"] or totals["outside"]))


if __name__ == "__main__":
    sys.exit(main())

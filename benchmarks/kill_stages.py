"""SIGKILL at random and aimed moments of every verb that writes: nothing half-made, every rerun succeeds.

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/kill_stages.py WORK --random 100 --aimed 100 --save

Each verb runs on a tiny network and a few images, as a fork of this process, so that torch is imported already and a
kill hits the work and not the imports. A random kill comes after a random share of the time that the verb takes. An
aimed one comes at one of the moments at which the verb is about to open, make, rename or remove something below its
folder, or has just renamed something; half of them are aimed at renames, at the beginning and at the end. After each
kill, what stands under a final name must be complete, and the same command must succeed; it may say that the output is
there where it was complete already. Then nothing of the killed process may be left.

WORK keeps every kill, so that a run that was stopped goes on. `latency` measures each layer for a millisecond.

Bar: 100 random kills, 0 half-made outputs, every rerun succeeds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _results import result_path

from slimdeploy.bench.environment import environment
from slimdeploy.configs import SceneConfig
from slimdeploy.errors import OutputExists, SlimdeployError
from slimdeploy.lineage import RUN_FILE, read_run, sha256_file, write_json

NAME = "kill_stages"
LIMIT_S = 900.0
AIMS = ("rename", "renamed", "begin", "end", "any", "any")
LEFT = (".partial", ".lock", ".progress")  # ends of names that belong to work that is going on
SMALL = ["--epochs", "1", "--imgsz", "64", "--batch", "4", "--device", "cpu"]
RECIPE = """
data = "{data}"
weights = "{weights}"
imgsz = 64
[prune]
channels = 0.5
criterion = "bn_gamma"
reconstruct_images = 4
[finetune]
epochs = 1
batch = 4
device = "cpu"
[export]
check_images = 2
box_tolerance_px = 64
[bench]
samples = 12
rounds = 6
warmup_limit_s = 0.2
"""
SEARCH = """
recipe = "recipe.toml"
seed = 1
batch = 1
[space]
prune.channels = [0.25, 0.5]
[budget]
trials = 1
"""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command that writes.

    Attributes:
        name: as shown.
        argv: the command, with OUT for what it makes.
        out: name of what it makes.
        again: the command after a kill, where it is another one once OUT exists.
        goes_on: whether it may be run again when its output is complete.
        weight: how often it is killed, against the others.
    """

    name: str
    argv: tuple[str, ...]
    out: str = "out"
    again: tuple[str, ...] = ()
    goes_on: bool = False
    weight: int = 8


@dataclass(kw_only=True)
class Known:
    """What an unbroken run showed: its seconds, the moments that can be aimed at, and the names that it leaves."""

    seconds: float
    moments: list[str]
    left: list[str] = field(default_factory=list)


def verbs(base: Path) -> list[Verb]:
    """Return every verb that writes, on the inputs of a folder."""
    dense, data, bundle = str(base / "dense.pt"), str(base / "scenes" / "data.yaml"), str(base / "bundle")
    recipe, model = str(base / "recipe.toml"), str(base / "bundle" / "model.fp32.onnx")
    scored = str(base / "scored")
    return [
        Verb(name="train", argv=("train", "--data", data, *SMALL, "--out", "OUT"), weight=3),
        Verb(name="sparsify", argv=("sparsify", dense, "--data", data, *SMALL, "--sr", "0.1", "--out", "OUT"),
             weight=3),
        Verb(name="finetune", argv=("finetune", dense, "--data", data, *SMALL, "--out", "OUT"), weight=5),
        Verb(name="prune", argv=("prune", dense, "--channels", "0.3", "--imgsz", "64", "--out", "OUT"), weight=5),
        Verb(name="latency", argv=("latency", dense, "--target", "cpu", "--imgsz", "64", "--out", "OUT"),
             out="table.json", weight=2),
        Verb(name="export", argv=("export", dense, "--config", recipe, "--imgsz", "64", "--with", "deepstream,triton",
                                  "--out", "OUT"), weight=4),
        Verb(name="bench", argv=("bench", model, "--config", recipe, "--out", "OUT"), weight=3),
        Verb(name="val --out", argv=("val", model, "--data", data, "--imgsz", "64", "--out", "OUT"), weight=5),
        Verb(name="compare --html", argv=("compare", scored, "--html", "OUT"), out="page.html", weight=6),
        Verb(name="compare --out", argv=("compare", scored, "--out", "OUT"), weight=6),
        Verb(name="bundle pack", argv=("bundle", "pack", bundle, "--out", "OUT"), out="packed.tar.zst"),
        Verb(name="bundle pack, folder", argv=("bundle", "pack", str(base / "packed.tar.zst"), "--out", "OUT")),
        Verb(name="bundle sign", argv=("bundle", "sign", bundle, "--key", str(base / "key"), "--out", "OUT"),
             out="signed.tar.zst"),
        Verb(name="visdrone", argv=("visdrone", str(base / "raw"), "--tile", "64", "--out", "OUT")),
        Verb(name="ship", argv=("ship", bundle, "--to", "local:OUT", "--python", sys.executable), out="board",
             goes_on=True, weight=4),
        Verb(name="run", argv=("run", recipe, "--out", "OUT"), goes_on=True, weight=2),
        Verb(name="search", argv=("search", str(base / "search.toml"), "--out", "OUT"),
             again=("search", "--resume", "--out", "OUT"), goes_on=True, weight=1),
        Verb(name="demo --quick", argv=("demo", "--quick", "--out", "OUT"), goes_on=True, weight=1),
    ]  # fmt: skip


def prepare(base: Path) -> None:
    """Make the inputs of all verbs, once."""
    import cv2
    import numpy as np

    from slimdeploy.data.dataset import read_dataset
    from slimdeploy.data.scenes import render_dataset
    from slimdeploy.yolo import checkpoint, training

    if (base / "key").exists():
        return
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    render_dataset(base / "scenes", SceneConfig(train=4, val=2, size_px=64))
    classes = read_dataset(base / "scenes" / "data.yaml").classes
    checkpoint.save(training.new_network("yolov8n.yaml", classes, seed=0), base / "dense.pt", origin={"by": NAME})
    places = {"data": base / "scenes" / "data.yaml", "weights": base / "dense.pt"}
    (base / "recipe.toml").write_text(RECIPE.format(**places), encoding="utf-8")
    (base / "search.toml").write_text(SEARCH, encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    raw = base / "raw" / "VisDrone2019-DET-val"
    for kind in ("images", "annotations"):
        (raw / kind).mkdir(parents=True)
    for number in range(8):
        cv2.imwrite(str(raw / "images" / f"{number}.jpg"), noise)
        (raw / "annotations" / f"{number}.txt").write_text("10,20,30,40,1,4,0,0\n", encoding="utf-8")
    for verb in ("export", "val --out", "bundle pack"):
        made = next(one for one in verbs(base) if one.name == verb)
        place = {"export": "bundle", "val --out": "scored", "bundle pack": "packed.tar.zst"}[verb]
        ended = run(made, base, base / place)
        if ended.code != 0:
            raise SystemExit(f"{verb} ended with {ended.code}:\n{ended.log}")
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(base / "key")]
    subprocess.run(keygen, check=True)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its code (negative for a signal), its seconds, and the end of what it said."""

    code: int
    seconds: float
    log: str


def run(verb: Verb, place: Path, out: Path, *, aimed_at: int = 0, after_s: float = 0.0, again: bool = False) -> Ended:
    """Run a verb in a fork of this process.

    Args:
        verb: the verb.
        place: the folder to run in; it gets a folder `tmp` for scratch files, and the `log`.
        out: what to make.
        aimed_at: kill the process at this moment, counted from 1; 0 kills it at none.
        after_s: kill it after so many seconds; 0 lets it be.
        again: it was killed before.
    """
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        _child(verb, place, out, aimed_at, again=again)
    code = _waited(pid, started + after_s if after_s else started + LIMIT_S)
    seconds = time.perf_counter() - started
    return Ended(code=code, seconds=seconds, log=(place / "log").read_text(encoding="utf-8", errors="replace")[-1500:])


def _waited(pid: int, until: float) -> int:
    """Wait for a process, and kill it when its time has come; return its code."""
    while time.perf_counter() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(verb: Verb, place: Path, out: Path, aimed_at: int, *, again: bool) -> None:
    """Run the command line in this process, which is a fork, and end it."""
    from slimdeploy import cli

    os.setsid()
    (place / "tmp").mkdir(exist_ok=True)
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(place)
    os.environ["TMPDIR"] = str(place / "tmp")
    tempfile.tempdir = None
    template = verb.again if again and verb.again else verb.argv
    sys.argv = ["slimdeploy", *(word.replace("OUT", str(out)) for word in template)]
    _shorten_latency()
    _watch(out, place, aimed_at)
    code: Any = 70
    try:
        cli.main()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 - it must not go on as the benchmark
        import traceback

        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 70)


def _shorten_latency() -> None:
    from slimdeploy.cli import latency

    real, short = latency.build, {"layer_s": 1e-3, "wholes": 2, "samples": 10}

    def build(kind: Any, flags: dict[str, Any], *more: dict[str, Any]) -> Any:
        if "network" not in flags:  # the settings of a board
            return real(kind, flags, *more)
        return real(kind, {**flags, **short, "alignment": 64}, *more)

    latency.build = build


def _watch(out: Path, place: Path, aimed_at: int) -> None:
    """Count the moments at which something below the output's folder changes, and kill this process at one."""
    from slimdeploy import _rename

    owner, inside, noted = os.getpid(), str(out.parent), [0]
    moments = os.open(place / "moments", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def moment(kind: str) -> None:
        if os.getpid() != owner:
            return
        noted[0] += 1
        os.write(moments, f"{kind}\n".encode())
        if noted[0] == aimed_at:
            os.kill(owner, signal.SIGKILL)

    def heard(event: str, values: tuple[Any, ...]) -> None:
        kinds = {"os.rename": "rename", "os.link": "rename", "os.mkdir": "mkdir", "os.remove": "remove",
                 "os.rmdir": "remove", "open": "open"}  # fmt: skip
        kind = kinds.get(event)
        if kind is None or (event == "open" and not _writes(values)):
            return
        path = values[0] if isinstance(values[0], (str, os.PathLike)) else ""
        if os.path.abspath(path).startswith(inside):  # noqa: PTH100 - quick, since it is called for every file
            moment(kind)

    real = _rename._renameat2()

    def renameat2(*arguments: Any) -> Any:
        moment("rename")
        result = real(*arguments)
        moment("renamed")
        return result

    _rename._renameat2 = lambda: renameat2
    sys.addaudithook(heard)


def _writes(values: tuple[Any, ...]) -> bool:
    _, mode, flags = values
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def faults(verb: Verb, out: Path) -> list[str]:
    """Return what stands under a final name and is not complete."""
    if not os.path.lexists(out):
        return []
    if verb.name in ("run", "search", "demo --quick"):
        stages = [path.parent for path in out.rglob(RUN_FILE)]
        homes = [one.parent for one in stages]
        others = [
            path for home in {*homes} for path in home.iterdir()
            if path.is_dir() and not path.name.startswith(".") and path.name in ("prune", "finetune", "bench", "dense",
            "pruned", "tuned", "train", "sparsify") and home.name != "cache"
        ]  # fmt: skip
        return [why for stage in {*stages, *others} if (why := _of_stage(stage))]
    if verb.name == "ship":
        from slimdeploy.bundle.pack import verify

        found = [path.parent for path in out.glob("releases/*/bundle/manifest.json")]
        return [why for folder in found if (why := _refused(lambda folder=folder: verify(folder)))]
    return [why] if (why := _of_output(verb, out)) else []


def _of_output(verb: Verb, out: Path) -> str:
    from slimdeploy.bundle.archive import opened
    from slimdeploy.bundle.pack import verify
    from slimdeploy.latency.table import read_table

    def verified() -> None:
        with opened(out) as folder:
            verify(folder)

    if verb.name.startswith("bundle"):
        return _refused(verified)
    if verb.name == "latency":
        return _refused(lambda: read_table(out))
    if verb.name == "compare --html":
        return "" if out.read_text(encoding="utf-8").rstrip().endswith("</html>") else "the page has no end"
    if verb.name == "compare --out":
        return "" if {"report.html", "report.md", "report.json"} <= {p.name for p in out.iterdir()} else "a form lacks"
    return _of_stage(out)


def _refused(check: Any) -> str:
    try:
        check()
    except SlimdeployError as error:
        return str(error)
    return ""


def _of_stage(folder: Path) -> str:
    try:
        known = read_run(folder)["outputs"]
    except SlimdeployError as error:
        return str(error)
    wrong = [name for name, digest in known.items() if sha256_file(folder / name) != digest]
    return f"{folder}: {wrong} differ" if wrong else ""


def left_in(place: Path) -> list[str]:
    """Return what belongs to work that is going on, and what lies in the folder for scratch files."""
    names = [str(path.relative_to(place)) for path in place.rglob("*") if path.name.endswith(LEFT)]
    return sorted(names + [f"tmp/{path.name}" for path in (place / "tmp").iterdir() if not path.name.endswith(LEFT)])


@contextlib.contextmanager
def new_place(work: Path) -> Iterator[Path]:
    """Give an empty folder, and remove it in the end."""
    place = Path(tempfile.mkdtemp(dir=work, prefix="case-"))
    (place / "tmp").mkdir()
    (place / "here").mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def unbroken(verb: Verb, work: Path) -> Known:
    """Run a verb to its end, and return what that showed."""
    with new_place(work) as place:
        ended = run(verb, place, place / "here" / verb.out)
        found = faults(verb, place / "here" / verb.out)
        if ended.code != 0 or found:
            raise SystemExit(f"{verb.name} ended with {ended.code}: {found}\n{ended.log}")
        moments = (place / "moments").read_text(encoding="utf-8").split()
        return Known(seconds=ended.seconds, moments=moments, left=_generic(left_in(place)))


def _generic(names: list[str]) -> list[str]:
    """Return names without what differs from run to run, such as the hash in a cache."""
    return sorted({Path(name).suffix + "@" + str(len(Path(name).parts)) for name in names})


def kill(verb: Verb, known: Known, work: Path, mode: str, chance: random.Random) -> dict[str, Any] | None:
    """Kill a verb once and run it again; return what came of it, or None where it ended before it was killed."""
    aim, moment, after_s = "", 0, 0.0
    if mode == "aimed":
        if not known.moments:  # ship writes on the board, by another process
            return None
        aim, moment = _aimed(known.moments, chance)
    else:
        after_s = chance.uniform(0.01, known.seconds)
    with new_place(work) as place:
        out = place / "here" / verb.out
        stopped = run(verb, place, out, aimed_at=moment, after_s=after_s)
        if stopped.code != -signal.SIGKILL:
            return None
        half, was_there = faults(verb, out), os.path.lexists(out)
        whole = was_there and not verb.goes_on
        begun = verb.name == "search" and (out / "search.json").exists()
        again = run(verb, place, out, again=begun)
        wanted = OutputExists.exit_code if whole else 0
        after = faults(verb, out) if os.path.lexists(out) else ["nothing was made"]
        left = [] if whole else [name for name in left_in(place) if not set(_generic([name])) <= set(known.left)]
        return {
            "verb": verb.name, "mode": mode, "aim": aim, "moment": moment, "of": len(known.moments),
            "after_s": round(after_s, 3), "complete_already": whole, "half_made": half, "rerun_code": again.code,
            "rerun_failed": again.code != wanted or bool(after), "rerun_faults": after, "left": left,
            "log": again.log if again.code != wanted else "",
        }  # fmt: skip


def _aimed(moments: list[str], chance: random.Random) -> tuple[str, int]:
    aim, count = chance.choice(AIMS), len(moments)
    tenth = max(1, count // 10)
    candidates = {
        "rename": [n for n, kind in enumerate(moments, start=1) if kind == "rename"],
        "renamed": [n for n, kind in enumerate(moments, start=1) if kind == "renamed"],
        "begin": list(range(1, tenth + 1)),
        "end": list(range(count - tenth + 1, count + 1)),
        "any": list(range(1, count + 1)),
    }[aim]
    return aim, chance.choice(candidates or list(range(1, count + 1)))


def summary(kills: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts that the bar is about, in all and by verb."""
    counted = {mode: [one for one in kills if one["mode"] == mode] for mode in ("random", "aimed")}
    return {
        mode: {
            "kills": len(found),
            "half_made": sum(bool(one["half_made"]) for one in found),
            "reruns_failed": sum(one["rerun_failed"] for one in found),
            "left_something": sum(bool(one["left"]) for one in found),
            "complete_already": sum(one["complete_already"] for one in found),
            "by_verb": dict(sorted(Counter(one["verb"] for one in found).items())),
        }
        for mode, found in counted.items()
    }


def preload() -> None:
    """Import what the verbs import, so that a fork begins with its work."""
    import torch

    import slimdeploy.bench.measure
    import slimdeploy.bundle.archive
    import slimdeploy.cli._app
    import slimdeploy.data.visdrone_convert
    import slimdeploy.report.write
    import slimdeploy.search.run
    import slimdeploy.stages.bench
    import slimdeploy.stages.finetune
    import slimdeploy.stages.latency
    import slimdeploy.stages.prune
    import slimdeploy.stages.val
    import slimdeploy.yolo.training  # noqa: F401

    torch.set_num_threads(1)


def main() -> None:
    """Kill, and print the counts beside the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="a folder for inputs, cases and the kills so far")
    parser.add_argument("--random", type=int, default=100, help="kills at random moments")
    parser.add_argument("--aimed", type=int, default=100, help="kills at aimed moments")
    parser.add_argument("--verb", default="", help="this verb alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="keep the result under benchmarks/results/")
    asked = parser.parse_args()
    work = asked.work.resolve()
    preload()
    prepare(work / "base")
    noted = work / "kills.jsonl"
    kills = [json.loads(line) for line in noted.read_text("utf-8").splitlines()] if noted.exists() else []
    chosen = [verb for verb in verbs(work / "base") if asked.verb in ("", verb.name)]
    known: dict[str, Known] = {}
    chance = random.Random(asked.seed + len(kills))
    turns = [verb for turn in range(max(one.weight for one in chosen)) for verb in chosen if verb.weight > turn]
    wanted = {"random": asked.random, "aimed": asked.aimed}
    while any(sum(one["mode"] == mode for one in kills) < count for mode, count in wanted.items()):
        for verb in turns:
            for mode, count in wanted.items():
                if sum(one["mode"] == mode for one in kills) >= count:
                    continue
                if verb.name not in known:
                    known[verb.name] = unbroken(verb, work)
                came = kill(verb, known[verb.name], work, mode, chance)
                if came is None:
                    continue
                kills.append(came)
                with noted.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(came) + "\n")
                bad = came["half_made"] or came["rerun_failed"] or came["left"]
                print(len(kills), verb.name, mode, came["aim"], came["moment"], "BAD" if bad else "ok", flush=True)
    found = summary(kills)
    met = all(not found[mode][key] for mode in found for key in ("half_made", "reruns_failed"))
    print(json.dumps(found, indent=1))
    print(f"{found['random']['kills']} random and {found['aimed']['kills']} aimed kills: {'met' if met else 'NOT met'}")
    if asked.save:
        plain = [{key: value for key, value in one.items() if key != "log"} for one in kills]
        record = {"schema": 1, "benchmark": NAME, "summary": found, "kills": plain, "environment": environment()}
        write_json(result_path(NAME), record)


if __name__ == "__main__":
    main()

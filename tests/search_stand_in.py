"""A trial of three small stages that are files with numbers in them, and the faults that a test may order.

Workers import it by name, so what it must know stands in the environment: STAND_IN_LOG, a folder. There `made.log` gets
a line for every stage that was really made, and a file `FAULT-STAGE-SR` orders a fault for one trial's stage; it is
used up by `kill` and `fullonce`, and stays for the others.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import time
from pathlib import Path

from slimdeploy._cores import usable_cores
from slimdeploy.configs import BenchConfig, DenseConfig, FinetuneConfig
from slimdeploy.lineage import Input, file_input, stage_run
from slimdeploy.pipeline import Step

WALK = "search_stand_in:walk"
SEARCH = """
recipe = "recipe.toml"
seed = 3
{top}
[space]
imgsz = [64, 96]
finetune.lr0 = {{ low = 0.001, high = 0.1, log = true }}
[budget]
trials = {trials}
{sections}
"""
RECIPE = """
data = "data.yaml"
weights = "dense.pt"
imgsz = 64
[prune]
channels = 0.5
[finetune]
epochs = 1
"""


def write_search(folder: Path, *, trials: int = 8, top: str = "", sections: str = "") -> Path:
    """Write a SEARCH.toml and its recipe; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    path = folder / "search.toml"
    path.write_text(SEARCH.format(trials=trials, top=top, sections=sections), encoding="utf-8")
    return path


def log_folder() -> Path:
    return Path(os.environ["STAND_IN_LOG"])


def made() -> list[dict]:
    """Return what was really made: stage, key, process, and when it began and ended."""
    path = log_folder() / "made.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def order(fault: str, stage: str, number: int) -> Path:
    """Order a fault for a trial's stage: kill, hang, nan, memory, full, bug."""
    path = log_folder() / f"{fault}-{stage}-{number}"
    path.touch()
    return path


def walk(job, keep):
    imgsz, lr0 = job.recipe["imgsz"], job.recipe["finetune"]["lr0"]
    data = Input("data", hashlib.sha256(b"data").hexdigest())
    train = keep(_step(job, "train", DenseConfig(imgsz=imgsz), {"data": data}, 10.0 * imgsz))
    read = {"weights": file_input(train / "made.json")}
    tuned = keep(_step(job, "finetune", FinetuneConfig(imgsz=imgsz, lr0=lr0), read, lr0))
    read = {"weights": file_input(tuned / "made.json")}
    bench = keep(_step(job, "bench", BenchConfig(seed=imgsz), read, imgsz / 10 + lr0))
    p50_ms = json.loads((bench / "made.json").read_text())["value"]
    score = float("nan") if _ordered("nan", "bench", job) else 0.4 + imgsz / 1000 - abs(lr0 - 0.02)
    figures = {"map50_95": score, "p50_ms": p50_ms, "size_mb": 1.0 + lr0}
    return {"figures": figures, "bundle": tuned.relative_to(job.cache).as_posix()}


def _step(job, stage, config, inputs, value):
    def make(out):
        began = time.time()
        with stage_run(stage, config=config, inputs=inputs, out=out) as run:
            _commit(stage, job)
            time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
            (run.folder / "made.json").write_text(json.dumps({"value": value}), encoding="utf-8")
        line = {"stage": stage, "key": f"{stage}/{out.name}", "pid": os.getpid(), "began": began, "ended": time.time(),
                "cores": usable_cores()}  # fmt: skip
        with (log_folder() / "made.log").open("a") as log:
            log.write(json.dumps({**line, "trial": job.number}) + "\n")

    return Step(folder=stage, stage=stage, config=config, inputs=inputs, make=make)


def _ordered(fault, stage, job):
    return (log_folder() / f"{fault}-{stage}-{job.number}").exists()


def _commit(stage, job):
    """Do the fault that was ordered for this stage of this trial, if any."""
    if _ordered("kill", stage, job):
        (log_folder() / f"kill-{stage}-{job.number}").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if _ordered("deadly", stage, job):
        os.kill(os.getpid(), signal.SIGKILL)
    if _ordered("fullonce", stage, job):
        (log_folder() / f"fullonce-{stage}-{job.number}").unlink()
        raise OSError(errno.ENOSPC, "No space left on device")
    if _ordered("hang", stage, job):
        time.sleep(1000)
    if _ordered("memory", stage, job):
        raise MemoryError("provoked")
    if _ordered("full", stage, job):
        raise OSError(errno.ENOSPC, "No space left on device")
    if _ordered("bug", stage, job):
        raise KeyError("provoked")

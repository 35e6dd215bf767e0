"""One trial: a recipe walked stage by stage through the cache, and what came out of it."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.configs import ShipConfig
from slimdeploy.errors import SlimdeployError, UsageError
from slimdeploy.fields import is_number
from slimdeploy.lineage import Input, read_json
from slimdeploy.pipeline import Step, Way
from slimdeploy.recipes import Recipe, recipe_from
from slimdeploy.search.cache import Cache, Elsewhere, Leases, Tell
from slimdeploy.search.keys import BOARD
from slimdeploy.search.store import UrlStore

DONE, FAILED, STOPPED, ELSEWHERE, LOST, FULL = "done", "failed", "stopped", "elsewhere", "lost", "full"
WALK = "slimdeploy.search.trial:walk"
STOP_MARGIN = 1.05  # a network is stopped before its fine-tuning when it misses a bound by more than noise
FORM = "model"  # the one name that all trials measure under, so that they share measurements

Keep = Callable[[Step], Path]
Outcome = dict[str, Any]


class Stopped(Exception):
    """A trial cannot meet a constraint any more."""

    def __init__(self, why: str, figures: Mapping[str, float]) -> None:
        self.why, self.figures = why, dict(figures)
        super().__init__(why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process must know to walk one trial; plain values, so that it can travel.

    Attributes:
        number: the trial's number.
        recipe: the recipe's TOML with the trial's values in it.
        place: where that recipe stands.
        data: a data set's YAML that stands in for the recipe's own, or "".
        cache: the cache's folder on the machine that works.
        store: the cache's URL, or "".
        only: the kind of stages that may be made, or "" for both.
        cpus: cores that trainings use, or 0 for all.
        gpus: GPUs that trainings use.
        device: the board that is measured on, or "".
        bounds: the constraints that are known before fine-tuning: `p50_ms`, `size_mb`.
        wanted: figures that the objectives and constraints need.
        trust: open checkpoints even if they hold unknown objects.
        walk: what walks it, as `module:function`.
    """

    number: int
    recipe: Mapping[str, Any]
    place: str
    data: str
    cache: str
    store: str = ""
    only: str = ""
    cpus: int = 0
    gpus: int = 0
    device: str = ""
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    trust: bool = False
    walk: str = WALK


def run_job(job: Job, tell: Tell, leases: Leases | None = None) -> Outcome:
    """Walk a trial as far as this place may; return `state`, and with it what is known.

    Of a trial that is done: `figures`, `bundle` and `steps`. Of one that failed or was stopped: `why`.
    """
    cache = Cache(root=Path(job.cache), tell=tell, only=job.only, device=job.device, cpus=job.cpus, leases=leases)
    outcome = _walked(job, cache)
    return {**outcome, "number": job.number, "steps": cache.steps}


def _walked(job: Job, cache: Cache) -> Outcome:
    module, _, function = job.walk.partition(":")
    try:
        cache.store = UrlStore(job.store) if job.store else None
        found = getattr(importlib.import_module(module), function)(job, cache.keep)
        return _checked({"state": DONE, **found}, job)
    except Elsewhere as other:
        return {"state": ELSEWHERE, "kind": other.kind}
    except Stopped as stopped:
        return {"state": STOPPED, "why": stopped.why, "figures": stopped.figures}
    except Exception as error:  # noqa: BLE001 - one trial's bug must not end the others; it is told in full
        return {"state": FULL if _is_full(error) else FAILED, "why": _told(error)}


def _told(error: Exception) -> str:
    """Return what went wrong in one line."""
    text = (str(error).strip().splitlines() or ["no message"])[0]
    if isinstance(error, SlimdeployError):
        return text
    return f"memory ran out: {text}" if isinstance(error, MemoryError) else f"{type(error).__name__}: {text}"


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is what went wrong, however a library wrapped it."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _checked(outcome: Outcome, job: Job) -> Outcome:
    figures = outcome["figures"]
    for name in job.wanted:
        if name not in figures:
            return {**outcome, "state": FAILED, "why": f"{name} was not measured"}
        if not math.isfinite(figures[name]):
            return {**outcome, "state": FAILED, "why": f"{name} is {figures[name]}, no finite number"}
    return outcome


def walk(job: Job, keep: Keep) -> dict[str, Any]:
    """Walk the recipe of a trial: train, sparsify, prune, fine-tune, export the last network, measure it.

    Returns:
        `figures` by name and `bundle`, the export's folder below the cache.
    """
    recipe = recipe_from(job.recipe, Path(job.place), data=Path(job.data) if job.data else None)
    recipe = dataclasses.replace(recipe, **_on_gpus(recipe, job.gpus))
    _look_first(recipe, job, keep)
    way = Way(recipe, keep, trust=job.trust)
    weights = list(way.checkpoints().values())[-1]
    bundle = way.exports({FORM: weights})[FORM]
    bench = way.bench({FORM: bundle})
    figures = figures_of(bench)
    if job.device:
        figures |= on_board(keep(board_step(recipe, bundle, job.device)))
    return {"figures": figures, "bundle": bundle.relative_to(job.cache).as_posix()}


def _on_gpus(recipe: Recipe, gpus: int) -> dict[str, Any]:
    """Return the training configs of a recipe with a device each; ultralytics spreads them over several GPUs itself."""
    if not gpus:
        return {}
    device = ",".join(map(str, range(gpus)))
    configs = {name: getattr(recipe, name) for name in ("train", "sparsify", "finetune")}
    return {name: dataclasses.replace(one, device=device) for name, one in configs.items() if one is not None}


def _look_first(recipe: Recipe, job: Job, keep: Keep) -> None:
    """Raise Stopped where the pruned network is already too slow or too large, before hours go into tuning it."""
    if not job.bounds or not recipe.finetune or recipe.passes > 1 or recipe.distil == "both":
        return
    way = Way(dataclasses.replace(recipe, finetune=None), keep, trust=job.trust)
    bundle = way.exports({FORM: way.checkpoints()["pruned"]})[FORM]
    if job.device:
        figures = on_board(keep(board_step(recipe, bundle, job.device)))
    else:
        figures = figures_of(keep(_latency_step(recipe, bundle)))
    for name, bound in job.bounds.items():
        if figures.get(name, 0) > bound * STOP_MARGIN:
            raise Stopped(f"pruned, its {name} is {figures[name]:.4g}, and {bound:g} is allowed", figures)


def _latency_step(recipe: Recipe, bundle: Path) -> Step:
    from slimdeploy.stages.bench import bench, bench_inputs, find_models

    models = [(FORM, find_models([bundle])[0][1])]
    return Step(
        folder="look", stage="bench", config=recipe.bench, inputs=bench_inputs(models, None),
        make=lambda out: bench(models, recipe.bench, out),
    )  # fmt: skip


def board_step(recipe: Recipe, bundle: Path, device: str) -> Step:
    """Return the measurement of a bundle on a board."""
    from slimdeploy.board.whole import bundle_hash
    from slimdeploy.devices.address import parse_address
    from slimdeploy.stages.bench_device import bench_device

    inputs = {str(bundle): Input(bundle.name, bundle_hash(bundle))}
    address = parse_address(device)
    return Step(
        folder=f"{BOARD} {device}", stage="bench", config=recipe.bench, inputs=inputs,
        make=lambda out: bench_device([bundle], address, recipe.bench, out, shipping=ShipConfig()),
    )  # fmt: skip


def on_board(bench: Path) -> dict[str, float]:
    """Return what a board says: p50_ms, and joules as its mean power times p50, where it tells its power."""
    from slimdeploy.stages.bench_device import TELEMETRY

    p50_ms = figures_of(bench)["p50_ms"]
    by_row = read_json(bench / TELEMETRY, what="telemetry").get("by_row")
    rows = list(by_row.values()) if isinstance(by_row, dict) else []
    told: Any = (rows[0] or {}) if len(rows) == 1 else None
    power_mw: Any = told.get("mean_power_mw") if isinstance(told, dict) else "missing"
    if not (power_mw is None or is_number(power_mw)):
        raise UsageError(f"{bench / TELEMETRY} is damaged: it does not tell one board's power", do="measure again")
    return {"p50_ms": p50_ms} | ({"joules": power_mw * p50_ms / 1e6} if power_mw is not None else {})


def figures_of(bench: Path) -> dict[str, float]:
    """Return what a measurement says of its one model, by the objectives' names; what was not measured is left out."""
    from slimdeploy.bench.stats import summary
    from slimdeploy.report.read import BENCH_FILE, read_rows

    path = bench / BENCH_FILE
    (row,) = read_rows(path, read_json(path, what="measurement"))
    figures = {"size_mb": row.size_bytes / 1e6, "parameters": float(row.parameters), "gmacs": row.macs / 1e9}
    if row.accuracy is not None:
        figures |= {"map50_95": row.accuracy.map50_95, "map50": row.accuracy.map50}
    if row.latency is not None:
        figures["p50_ms"] = 1000 * summary(row.latency).p50_s
    if row.power:
        figures["joules"] = row.power[0].joules_an_image
    return figures

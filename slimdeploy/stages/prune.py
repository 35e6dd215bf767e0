"""Remove channels for good: plan, cut, and check that the cut is what was planned."""

from __future__ import annotations

import copy
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.channels import Coupling
from slimdeploy.configs import FIGURES, PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.latency.board import board_forecast
from slimdeploy.latency.table import read_table
from slimdeploy.lineage import Input, file_input, refuse_existing, stage_run
from slimdeploy.records import Checkpoint, PlannedLatency, PrunePlan, Target, as_json
from slimdeploy.stages._built import coupling_of, cut_copy
from slimdeploy.stages._importance import importance_of
from slimdeploy.stages._trials import Trials, images_for
from slimdeploy.stages.aim import Aim, plan_by_forecast, plan_by_measuring
from slimdeploy.stages.losses import costs_of, planned_units
from slimdeploy.stages.plan import config_of, make_plan, read_plan, require_fits, write_plan
from slimdeploy.stages.planner import Forecast
from slimdeploy.stages.widths import units_of

if TYPE_CHECKING:
    from torch import nn

OUTPUT = "pruned.pt"
PLAN = "plan.json"

log = logging.getLogger("slimdeploy.prune")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a plan is made with, besides the weights and the settings.

    Attributes:
        target: where the network shall be as quick as the config asks; None where the budget is a share.
        table: a latency table of that target; None takes the model of its board.
        data: YAML of a data set whose images sensitivities and gradients are measured on, and a plan for a share is
            tried on; without it scenes are rendered for sensitivities, and a plan for a share is not tried.
        plan: a plan to replay; the config is then what `config_of` says of it.
    """

    target: Target | None = None
    table: Path | None = None
    data: Path | None = None
    plan: Path | None = None

    def inputs(self) -> dict[str, Input]:
        """Return what is read, by its role."""
        files = {"table": (self.table, "latency table"), "plan": (self.plan, "prune plan")}
        found = {}
        for role, (path, what) in files.items():
            if path is not None and not path.is_file():
                raise UsageError(f"no {what} at {path}", wanted="a file that slimdeploy wrote")
            if path is not None:
                found[role] = file_input(path)
        if self.data is not None:
            found["data"] = read_dataset(self.data, check_labels=False).as_input()
        return found


NOTHING = Means()


def prune(weights: Path, config: PruneConfig, out: Path, *, trust: bool = False, means: Means = NOTHING) -> Path:
    """Cut a network and write `pruned.pt`, an ordinary ultralytics checkpoint, and `plan.json`.

    Args:
        weights: the checkpoint, best one trained by sparsify.
        config: the budget, and the alignment of the widths.
        out: the folder to make.
        trust: open `weights` even if it holds unknown objects.
        means: target, table, data and plan, where they are needed.

    Returns:
        The path of `pruned.pt`.

    Raises:
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        UsageError: the network is none that can be pruned, the plan is for other weights or settings, or the table does
            not suit the network, the target or the input size.
        GateError: the budget cannot be reached, or the plan would kill all positives.
        OutputExists: `out` is there already.
        StageFailed: the cut differs from the plan.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, prunable
    refuse_existing(out)
    module, known = checkpoint.load(weights, trust=trust)
    prunable.require_prunable(module)
    inputs = {"weights": file_input(weights), **means.inputs()}
    with stage_run("prune", config=config, inputs=inputs, out=out) as run:
        done = decide(module, known, config, means)
        cut = cut_copy(module, coupling_of(module, config.imgsz), {group.name: group.kept for group in done.groups})
        _require_as_planned(cut, done)
        if any(len(group.kept) < group.width for group in done.groups):
            checkpoint.mark_pruned(cut)
        if done.latency:
            checkpoint.note_latency(cut, _without_layers(done.latency))
        write_plan(done, run.folder / PLAN)
        checkpoint.save(cut, run.folder / OUTPUT, origin={"stage": "prune", "weights_sha256": known.sha256})
        run.results.update(_figures(done), size_bytes=[known.size_bytes, (run.folder / OUTPUT).stat().st_size])
    return out / OUTPUT


def plan_only(weights: Path, config: PruneConfig, *, trust: bool = False, means: Means = NOTHING) -> PrunePlan:
    """Return the plan by which `prune` would begin; nothing is cut, built, measured or written.

    Args and Raises: as in `prune`.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, prunable
    module, known = checkpoint.load(weights, trust=trust)
    prunable.require_prunable(module)
    return decide(module, known, config, means, measuring=False)


def decide(
    module: nn.Module, known: Checkpoint, config: PruneConfig, means: Means, *, measuring: bool = True
) -> PrunePlan:
    """Return the plan by which a stock network would be cut; it is not changed.

    Args:
        module: the network.
        known: its checkpoint.
        config: the budget, and the alignment of the widths.
        means: target, table, data and plan, where they are needed.
        measuring: build and measure plans to a latency, where the target runs here.

    Raises:
        UsageError, GateError: as in `prune`.
    """
    coupling = coupling_of(module, config.imgsz)
    log.info("%d groups of coupled channels in %d convolutions", len(coupling.groups), len(coupling.layers))
    if means.plan is not None:
        return _replayed(means.plan, coupling, config, known)
    if config.budget[0] not in FIGURES:
        return _by_share(module, coupling, known, config, means.data)
    forecast = _forecast(coupling, config, means)
    aim = _aim(module, coupling, known, config, means, forecast)
    return plan_by_measuring(aim, config) if measuring and forecast.here else plan_by_forecast(aim, config)


def _forecast(coupling: Coupling, config: PruneConfig, means: Means) -> Forecast:
    """Return what tells milliseconds by layer: the table that was given, or the model of the target's board."""
    target, table = means.target, means.table
    if target is None:
        raise UsageError(f"a {config.budget[0]} without a target", wanted="--target", do="see slimdeploy targets")
    if table is None:
        return board_forecast(target, coupling, config.precision)
    found = read_table(table)
    found.require_made_for(target, config.precision)
    found.require_fits(coupling)
    return found


def _aim(
    module: nn.Module, coupling: Coupling, known: Checkpoint, config: PruneConfig, means: Means, forecast: Forecast
) -> Aim:
    assert means.target is not None  # _forecast asked for it
    importance = importance_of(module, coupling, config, means.data)
    units = planned_units(coupling, config.alignment, config.least_share)
    images, where = images_for(means.data, known.classes, coupling, config, len(units))
    log.info("prune: trying %d groups alone on %s", len(units), where)
    trials = Trials(_split(module), coupling, units, importance, images)
    return Aim(
        module=module,
        coupling=coupling,
        importance=importance,
        costs=costs_of(units, importance, trials.alone),
        trials=trials,
        forecast=forecast,
        target=means.target,
        weights_sha256=known.sha256,
    )


def _by_share(
    module: nn.Module, coupling: Coupling, known: Checkpoint, config: PruneConfig, data: Path | None
) -> PrunePlan:
    """Return a plan for a share; on images of `data` it is tried as a whole, and refused if nothing is found."""
    importance = importance_of(module, coupling, config, data)
    plan = make_plan(coupling, importance, config, weights_sha256=known.sha256)
    if data is None:
        return plan
    units = units_of(coupling.groups, config.alignment)
    images, where = images_for(data, known.classes, coupling, config, len(units))
    log.info("prune: trying the plan on %s", where)
    trials = Trials(_split(module), coupling, units, importance, images)
    return dataclasses.replace(plan, whole=trials.whole({group.name: len(group.kept) for group in plan.groups}))


def _split(module: nn.Module) -> nn.Module:
    from slimdeploy.yolo import prunable

    split = copy.deepcopy(module)
    prunable.split(split)
    return split


def _replayed(path: Path, coupling: Coupling, config: PruneConfig, known: Checkpoint) -> PrunePlan:
    plan = read_plan(path)
    if config_of(plan) != config:
        raise UsageError(
            f"the settings are not those of the plan {path}", wanted="the plan's own", do="give --plan alone"
        )
    require_fits(plan, coupling, weights_sha256=known.sha256)
    return plan


def _without_layers(latency: PlannedLatency) -> dict[str, Any]:
    return {name: value for name, value in as_json(latency).items() if name != "saved_ms"}


def _require_as_planned(module: nn.Module, plan: PrunePlan) -> None:
    from slimdeploy.yolo.checkpoint import count_parameters
    from slimdeploy.yolo.macs import count_macs

    done = (count_parameters(module), count_macs(module, plan.imgsz))
    if done != (plan.parameters[1], plan.macs[1]):
        raise StageFailed(
            f"the cut network has {done[0]} parameters and {done[1]} MACs",
            wanted=f"the plan's {plan.parameters[1]} and {plan.macs[1]}",
            do="report this as a bug",
        )


def _figures(plan: PrunePlan) -> dict[str, object]:
    return {
        "budget": plan.budget,
        "asked": plan.asked,
        "reached": plan.reached,
        "groups": len(plan.groups),
        "channels": [sum(group.width for group in plan.groups), sum(len(group.kept) for group in plan.groups)],
        "parameters": list(plan.parameters),
        "macs": list(plan.macs),
        "latency": _without_layers(plan.latency) if plan.latency else None,
        "sensitivities": [as_json(one) for one in sorted(plan.sensitivities, key=lambda one: -one.damage)],
    }

"""Remove channels for good: plan, cut, and check that the cut is what was planned."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy._needs import needs
from slimdeploy.configs import PruneConfig
from slimdeploy.errors import StageFailed, UsageError
from slimdeploy.lineage import file_input, refuse_existing, stage_run
from slimdeploy.records import PrunePlan
from slimdeploy.stages.plan import config_of, make_plan, read_plan, require_fits, write_plan

if TYPE_CHECKING:
    from torch import nn

OUTPUT = "pruned.pt"
PLAN = "plan.json"

log = logging.getLogger("slimdeploy.prune")


def prune(weights: Path, config: PruneConfig, out: Path, *, trust: bool = False, plan: Path | None = None) -> Path:
    """Cut a network and write `pruned.pt`, an ordinary ultralytics checkpoint, and `plan.json`.

    Args:
        weights: the checkpoint, best one trained by sparsify.
        config: the share to remove, and the alignment of the widths.
        out: the folder to make.
        trust: open `weights` even if it holds unknown objects.
        plan: a plan to replay; `config` is then what `config_of` says of it.

    Returns:
        The path of `pruned.pt`.

    Raises:
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        UsageError: the network is no YOLOv8 detector, or the plan is for other weights or settings.
        GateError: the share asked for cannot be reached.
        OutputExists: `out` is there already.
        StageFailed: the cut differs from the plan.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, prunable
    refuse_existing(out)
    replayed = _to_replay(plan, config)
    module, known = checkpoint.load(weights, trust=trust)
    prunable.require_prunable(module)
    inputs = {"weights": file_input(weights)} | ({} if plan is None else {"plan": file_input(plan)})
    with stage_run("prune", config=config, inputs=inputs, out=out) as run:
        done = _plan_and_cut(module, known.sha256, config, replayed)
        _require_as_planned(module, done)
        if any(len(group.kept) < group.width for group in done.groups):
            checkpoint.mark_pruned(module)
        write_plan(done, run.folder / PLAN)
        checkpoint.save(module, run.folder / OUTPUT, origin={"stage": "prune", "weights_sha256": known.sha256})
        run.results.update(_figures(done), size_bytes=[known.size_bytes, (run.folder / OUTPUT).stat().st_size])
    return out / OUTPUT


def _to_replay(path: Path | None, config: PruneConfig) -> PrunePlan | None:
    if path is None:
        return None
    plan = read_plan(path)
    if config_of(plan) != config:
        raise UsageError(
            f"the settings are not those of the plan {path}", wanted="the plan's own", do="give --plan alone"
        )
    return plan


def _plan_and_cut(module: nn.Module, sha256: str, config: PruneConfig, replayed: PrunePlan | None) -> PrunePlan:
    """Cut a stock network in place, and return the plan that it was cut by."""
    from slimdeploy.yolo import coupling, prunable

    prunable.split(module)
    coupled = coupling.couple(module, (config.imgsz, config.imgsz))
    log.info("%d groups of coupled channels in %d convolutions", len(coupled.groups), len(coupled.layers))
    if replayed is None:
        plan = make_plan(coupled, coupling.scale_importance(module, coupled), config, weights_sha256=sha256)
    else:
        require_fits(replayed, coupled, weights_sha256=sha256)
        plan = replayed
    coupling.cut(module, coupled, {group.name: group.kept for group in plan.groups})
    prunable.join(module)
    return plan


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
    }

"""Remove channels for good: plan, cut, and check that the cut is what was planned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import require
from slimdeploy.configs import PruneConfig
from slimdeploy.data.dataset import read_dataset
from slimdeploy.errors import StageFailed
from slimdeploy.lineage import file_input, stage_run
from slimdeploy.outputs import refuse_existing
from slimdeploy.records import Checkpoint, PlannedLatency, PrunePlan, as_json
from slimdeploy.stages._agreement import agreement_with, images_to_judge, require_agreement
from slimdeploy.stages._built import cut_copy
from slimdeploy.stages._reconstruct import Fit, cut_and_fit, fitted_on
from slimdeploy.stages.decide import NOTHING, Decision, Means, decide, require_forecast
from slimdeploy.stages.plan import write_plan

if TYPE_CHECKING:
    from torch import nn

OUTPUT = "pruned.pt"
PLAN = "plan.json"


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
        GateError: the budget cannot be reached, or the cut network would find too little of what the whole one finds.
        OutputExists: `out` is there already.
        StageFailed: the cut differs from the plan.
    """
    require("train")
    refuse_existing(out)
    require_forecast(config, means)  # before torch is imported, which takes seconds
    from slimdeploy.yolo import checkpoint, prunable

    module, known = checkpoint.load(weights, trust=trust)
    prunable.require_prunable(module)
    inputs = {"weights": file_input(weights), **means.inputs()}
    with stage_run("prune", config=config, inputs=inputs, out=out) as run:
        decision = decide(module, known, config, means)
        cut, done, fit = _cut(module, known, decision, config, means.data)
        _require_as_planned(cut, done)
        if any(len(group.kept) < group.width for group in done.groups):
            checkpoint.mark_pruned(cut)
        if done.latency:
            checkpoint.note_latency(cut, _without_layers(done.latency))
        write_plan(done, run.folder / PLAN)
        checkpoint.save(cut, run.folder / OUTPUT, origin={"stage": "prune", "weights_sha256": known.sha256})
        run.results.update(_figures(done), size_bytes=[known.size_bytes, (run.folder / OUTPUT).stat().st_size])
        run.results |= {"criterion": done.criterion, "fit": as_json(fit) if fit else None}
    return out / OUTPUT


def plan_only(weights: Path, config: PruneConfig, *, trust: bool = False, means: Means = NOTHING) -> PrunePlan:
    """Return the plan by which `prune` would begin; nothing is cut, built, measured or written.

    Args and Raises: as in `prune`.
    """
    require("train")
    require_forecast(config, means)
    from slimdeploy.yolo import checkpoint, prunable

    module, known = checkpoint.load(weights, trust=trust)
    prunable.require_prunable(module)
    return decide(module, known, config, means, measuring=False).plan


def _cut(
    module: nn.Module, known: Checkpoint, decision: Decision, config: PruneConfig, data: Path | None
) -> tuple[nn.Module, PrunePlan, Fit | None]:
    """Cut a network as was decided and, where there are images to fit it on, fit it and try it once more.

    Returns:
        The network, the plan with what came of the trial, and how well weights could be fitted, where they were.

    Raises:
        GateError: the cut network finds too little of what the whole one finds.
    """
    plan, coupling, trials = decision.plan, decision.coupling, decision.trials
    kept = {group.name: group.kept for group in plan.groups}
    narrowed = any(len(group.kept) < group.width for group in plan.groups)
    images = fitted_on(config, data)
    if images is None or not narrowed:
        unfitted = dataclasses.replace(plan, rebuilt=None, agreement=None)
        return cut_copy(module, coupling, kept), unfitted, None
    cut, fit = cut_and_fit(module, coupling, kept, config, images)
    dataset = read_dataset(images, check_labels=False)
    judged = images_to_judge(dataset, fit.images, sum(plan.macs))
    agreement = agreement_with(module, cut, known, config, dataset, judged)
    widths = {name: len(positions) for name, positions in kept.items()}
    require_agreement(agreement, config, lambda: trials.worst(widths) if trials else "not measured")
    rebuilt = trials.rebuilt(cut, widths) if trials else None
    return cut, dataclasses.replace(plan, rebuilt=rebuilt, agreement=agreement), fit


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
        "agreement": as_json(plan.agreement) if plan.agreement else None,
        "sensitivities": [as_json(one) for one in sorted(plan.sensitivities, key=lambda one: -one.damage)],
    }

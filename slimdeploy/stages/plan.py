"""Decide how wide every group of channels stays and which channels those are; no weight is touched.

For a share of channels or multiply-accumulates every group loses about the same share. That is deliberate: ranking the
scales of all layers together takes most of the last hidden convolutions of the class branch, after which no anchor
scores any more and fine-tuning starts from worse than new weights. Widths for a latency are chosen in `planner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slimdeploy.channels import CoupledGroup, Coupling
from slimdeploy.configs import FIGURES, SHARES, PruneConfig
from slimdeploy.errors import GateError, UsageError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, why_malformed
from slimdeploy.lineage import SCHEMA, read_json, write_json
from slimdeploy.records import (
    ClassAgreement,
    DetectionAgreement,
    KeptWhole,
    PlannedGroup,
    PlannedLatency,
    PrunePlan,
    Sensitivity,
    as_json,
)
from slimdeploy.stages.widths import Unit, Widths, equal_shares, units_of

_CLOSE = 0.25  # of the tolerance: nearer than this is not worth leaving equal shares for
_HALVINGS = 30


def make_plan(
    coupling: Coupling, importance: Mapping[str, Sequence[float]], config: PruneConfig, *, weights_sha256: str
) -> PrunePlan:
    """Return which channels stay.

    Args:
        coupling: the network's groups.
        importance: one value a channel, for every group by its name; the lowest go first, and of equal ones the
            last.
        config: the budget and the alignment. A share of 0 leaves every width as it is.
        weights_sha256: the checkpoint that the plan is for.

    Raises:
        GateError: no widths in multiples of the alignment remove the share asked for, within the tolerance.
    """
    budget, asked = config.budget
    units = units_of(coupling.groups, config.alignment)
    share_of = _share_of(coupling, budget)
    whole = coupling.whole()
    widths = whole if asked == 0 else _choose(units, share_of, asked, config.tolerance)
    if abs(share_of(widths) - asked) > config.tolerance:
        raise _unreachable(units, share_of, widths, config)
    return plan_of(coupling, importance, widths, config, reached=share_of(widths), weights_sha256=weights_sha256)


def plan_of(
    coupling: Coupling,
    importance: Mapping[str, Sequence[float]],
    widths: Mapping[str, int],
    config: PruneConfig,
    *,
    reached: float,
    weights_sha256: str,
) -> PrunePlan:
    """Return the plan that gives every group its width and keeps its most important channels.

    Args:
        coupling: the network's groups.
        importance: one value a channel, for every group by its name.
        widths: channels that each group keeps.
        config: the budget and the alignment.
        reached: what the widths come to, in the budget's terms.
        weights_sha256: the checkpoint that the plan is for.
    """
    budget, asked = config.budget
    whole = coupling.whole()
    units = units_of(coupling.groups, config.alignment)
    return PrunePlan(
        weights_sha256=weights_sha256,
        imgsz=coupling.imgsz,
        criterion=config.criterion,
        budget=budget,
        asked=asked,
        reached=reached,
        alignment=config.alignment,
        groups=tuple(_planned(group, importance[group.name], widths[group.name]) for group in coupling.groups),
        kept_whole=(*coupling.kept_whole, *_too_narrow(coupling.groups, units, config.alignment)),
        parameters=(coupling.parameters(whole), coupling.parameters(widths)),
        macs=(coupling.macs(whole), coupling.macs(widths)),
        reconstruct_images=config.reconstruct_images,
    )


def _share_of(coupling: Coupling, budget: str) -> Callable[[Widths], float]:
    """Return what tells the share of the budget that given widths remove."""
    whole = coupling.whole()
    if budget == "channels":
        channels = sum(whole.values())
        return lambda widths: 1 - sum(widths.values()) / channels
    macs = coupling.macs(whole)
    return lambda widths: 1 - coupling.macs(widths) / macs


def _choose(units: Sequence[Unit], share_of: Callable[[Widths], float], asked: float, tolerance: float) -> Widths:
    """Find the equal share whose rounded widths come nearest, then mend what rounding left over."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share_of(equal_shares(units, middle)) < asked else (low, middle)
    ratio = min((low, high), key=lambda one: abs(share_of(equal_shares(units, one)) - asked))
    widths = equal_shares(units, ratio)
    while abs(share_of(widths) - asked) > _CLOSE * tolerance:
        better = _one_step(units, widths, ratio, share_of, asked)
        if better is None:
            break
        widths = better
    return widths


def _one_step(
    units: Sequence[Unit], widths: Widths, ratio: float, share_of: Callable[[Widths], float], asked: float
) -> Widths | None:
    """Return the widths after the one step towards the share asked for that leaves equal shares least."""
    missing = asked - share_of(widths)
    steps = sorted(_steps(units, widths, ratio, narrower=missing > 0), key=lambda step: step[0])
    for _, unit, width in steps:
        changed = widths | dict.fromkeys(unit.names, width)
        if abs(share_of(changed) - asked) < abs(missing):
            return changed
    return None


def _steps(units: Sequence[Unit], widths: Widths, ratio: float, *, narrower: bool) -> Iterator[tuple[float, Unit, int]]:
    for unit in units:
        at = unit.choices.index(widths[unit.names[0]]) + (-1 if narrower else 1)
        if 0 <= at < len(unit.choices):
            yield abs(unit.choices[at] / unit.width - (1 - ratio)), unit, unit.choices[at]


def strongest(importance: Sequence[float], width: int) -> tuple[int, ...]:
    """Return the positions of the `width` most important channels, increasing; of equal ones the first."""
    ranked = sorted(range(len(importance)), key=lambda channel: (-importance[channel], channel))
    return tuple(sorted(ranked[:width]))


def _planned(group: CoupledGroup, importance: Sequence[float], width: int) -> PlannedGroup:
    kept = strongest(importance, width)
    return PlannedGroup(name=group.name, width=group.width, kept=kept, layers=group.layers, tied_to=group.tied_to)


def _too_narrow(groups: Sequence[CoupledGroup], units: Sequence[Unit], alignment: int) -> Iterator[KeptWhole]:
    fixed = {name for unit in units if unit.choices == (unit.width,) for name in unit.names}
    for group in groups:
        for layer in group.layers if group.name in fixed else ():
            yield KeptWhole(layer=layer, width=group.width, why=f"no narrower width is a multiple of {alignment}")


def _unreachable(
    units: Sequence[Unit], share_of: Callable[[Widths], float], nearest: Widths, config: PruneConfig
) -> GateError:
    budget, asked = config.budget
    least, most = share_of(equal_shares(units, 0.0)), share_of(equal_shares(units, 1.0))
    return GateError(
        f"{asked:.1%} of the {budget} cannot be removed in multiples of {config.alignment} channels: "
        f"the nearest is {share_of(nearest):.1%}",
        wanted=f"within {config.tolerance:.1%} of a share that aligned widths reach, from {least:.1%} to {most:.1%}",
        do="ask for another share, or for a smaller alignment",
    )


def write_plan(plan: PrunePlan, path: Path) -> None:
    """Write a plan as JSON."""
    write_json(path, {"schema": SCHEMA, **as_json(plan)})


def read_plan(path: Path) -> PrunePlan:
    """Return the plan that `write_plan` wrote.

    Raises:
        UsageError: the file is missing, damaged, or of a newer schema.
    """
    record = read_json(path, what="prune plan")
    try:
        return _as_plan(record)
    except MALFORMED as error:
        raise UsageError(
            f"{path} is not a prune plan: {why_malformed(error)}", do="make it again with slimdeploy prune"
        ) from error


def _as_plan(record: Mapping[str, Any]) -> PrunePlan:
    groups = [
        PlannedGroup(**(group | {"kept": tuple(map(int, group["kept"])), "layers": tuple(group["layers"])}))
        for group in record["groups"]
    ]
    height, width = record["imgsz"]
    lists = {
        "imgsz": (int(height), int(width)),
        "groups": tuple(groups),
        "kept_whole": tuple(KeptWhole(**one) for one in record["kept_whole"]),
        "parameters": tuple(record["parameters"]),
        "macs": tuple(record["macs"]),
        "latency": _as_latency(record.get("latency")),
        "sensitivities": tuple(_as_sensitivity(one) for one in record.get("sensitivities", ())),
        "whole": _as_sensitivity(record["whole"]) if record.get("whole") else None,
        "rebuilt": _as_sensitivity(record["rebuilt"]) if record.get("rebuilt") else None,
        "agreement": _as_agreement(record["agreement"]) if record.get("agreement") else None,
    }
    plan = PrunePlan(**{name: value for name, value in record.items() if name != "schema"} | lists)
    require(plan)
    config_of(plan)
    _require_figures(plan)
    return plan


def _require_figures(plan: PrunePlan) -> None:
    """Raise UsageError where a figure is one that no plan has, so that whoever shows it need not ask."""
    shown = [*plan.parameters, *plan.macs, *plan.imgsz, *(one.width for one in plan.kept_whole)]
    if min(shown) < 0:
        raise UsageError("a count below 0", wanted="0 or more")
    if plan.latency is None:
        return
    taken = [*plan.latency.planned_ms, *(plan.latency.measured_ms or ()), plan.latency.asked_ms, plan.latency.speedup]
    if min(taken) <= 0:
        raise UsageError("a latency of 0 ms or less", wanted="more than 0 ms")


def _as_latency(plain: Mapping[str, Any] | None) -> PlannedLatency | None:
    if plain is None:
        return None
    measured = plain["measured_ms"]
    pairs = {"planned_ms": tuple(plain["planned_ms"]), "measured_ms": None if measured is None else tuple(measured)}
    if plain.get("speedup_interval") is not None:
        pairs["speedup_interval"] = tuple(plain["speedup_interval"])
    return PlannedLatency(**{**plain, **pairs})


def _as_sensitivity(plain: Mapping[str, Any]) -> Sensitivity:
    return Sensitivity(**{**plain, "groups": tuple(plain["groups"]), "positives": tuple(plain["positives"])})


def _as_agreement(plain: Mapping[str, Any]) -> DetectionAgreement:
    by_class = tuple(ClassAgreement(**row) for row in plain["by_class"])
    scores = plain["map50_95"]
    return DetectionAgreement(
        **{**plain, "by_class": by_class, "map50_95": None if scores is None else (float(scores[0]), float(scores[1]))}
    )


def config_of(plan: PrunePlan) -> PruneConfig:
    """Return the settings that a plan was made with.

    Raises:
        UsageError: the plan holds settings out of range.
    """
    if plan.budget not in (*SHARES, *FIGURES):
        raise UsageError(f"a plan for the budget {plan.budget!r}", wanted=f"one of {', '.join((*SHARES, *FIGURES))}")
    settings: dict[str, Any] = {
        plan.budget: plan.asked, "criterion": plan.criterion, "reconstruct_images": plan.reconstruct_images,
    }  # fmt: skip
    if plan.latency:
        settings["precision"] = plan.latency.precision
    return PruneConfig(alignment=plan.alignment, imgsz=plan.imgsz[0], **settings)


def require_fits(plan: PrunePlan, coupling: Coupling, *, weights_sha256: str) -> None:
    """Check that a plan was made for these weights and holds what it says.

    Raises:
        UsageError: it is for other weights or other shapes, or its figures were changed.
    """
    if plan.weights_sha256 != weights_sha256:
        raise UsageError(
            f"the plan was made for the weights {plan.weights_sha256[:12]} and not for {weights_sha256[:12]}",
            wanted="the checkpoint that it was made for",
            do="name that checkpoint, or plan anew",
        )
    planned = [(g.name, g.width, g.layers, g.tied_to) for g in plan.groups]
    if planned != [(g.name, g.width, g.layers, g.tied_to) for g in coupling.groups]:
        raise UsageError("the plan's groups are not those of the network", do="plan anew")
    widths = {group.name: len(group.kept) for group in plan.groups}
    if any(group.tied_to and widths[group.name] != widths[group.tied_to] for group in plan.groups):
        raise UsageError("the plan narrows the two halves of a C2f differently", wanted="equal widths")
    if (plan.parameters[1], plan.macs[1]) != (coupling.parameters(widths), coupling.macs(widths)):
        raise UsageError("the plan's parameters and MACs are not those of its widths", do="plan anew")

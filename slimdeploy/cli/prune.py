"""`slimdeploy prune`: remove channels for good."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimdeploy.cli._shared import ConfigOption, JsonOption, OutOption, TrustOption, show, table
from slimdeploy.configs import PruneConfig, build
from slimdeploy.errors import UsageError

if TYPE_CHECKING:
    from slimdeploy.records import PrunePlan

NAME = "prune"
_BUDGETS = ("channels", "macs")


def command(
    weights: Annotated[Path, typer.Argument(help="The checkpoint, a YOLOv8 .pt; best one that sparsify wrote.")],
    out: OutOption,
    channels: Annotated[float | None, typer.Option(help="Share of the channels to remove, such as 0.5.")] = None,
    macs: Annotated[float | None, typer.Option(help="Share of the multiply-accumulates to remove.")] = None,
    target: Annotated[str | None, typer.Option(help="Align widths to this target: see slimdeploy targets.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="What it will run at on the target: fp32, fp16 or int8; int8 asks for wider steps."),
    ] = None,
    alignment: Annotated[int | None, typer.Option(help="Make widths multiples of this; beats the target.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input that MACs are counted at, in pixels.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Replay this plan.json on the weights it was made for.")] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Remove channels physically; writes pruned.pt and plan.json.

    Example: slimdeploy prune sparse.pt --channels 0.5 --target jetson --out pruned
    """
    from slimdeploy.stages.plan import config_of, read_plan
    from slimdeploy.stages.prune import PLAN, prune

    flags = {"channels": channels, "macs": macs, "alignment": alignment, "imgsz": imgsz}
    if plan is None:
        settings = _settings(flags, config, target, precision)
    elif config or target or precision or any(value is not None for value in flags.values()):
        raise UsageError("--plan together with other settings", wanted="--plan alone", do="the plan holds its own")
    else:
        settings = config_of(read_plan(plan))
    written = prune(weights, settings, out, trust=trust, plan=plan)
    decided = read_plan(out / PLAN)
    show(_as_result(decided, written, out / PLAN), text=_as_text(decided, written), as_json=json)


def _settings(flags: dict[str, Any], config: Path | None, target: str | None, precision: str | None) -> PruneConfig:
    from slimdeploy.recipes import section
    from slimdeploy.targets import alignment_for, load_target

    if precision and not target:
        raise UsageError("--precision without a target", wanted="--target, whose widths depend on it")

    recipe = section(config, NAME)
    if any(flags[budget] is not None for budget in _BUDGETS):  # a flag's budget replaces the recipe's
        recipe = {name: value for name, value in recipe.items() if name not in _BUDGETS}
    aligned = {"alignment": alignment_for(load_target(target), [precision] if precision else [])} if target else {}
    return build(PruneConfig, flags, recipe, aligned)


def _as_result(plan: PrunePlan, written: Path, plan_path: Path) -> dict[str, Any]:
    return {
        "weights": str(written),
        "plan": str(plan_path),
        "budget": plan.budget,
        "asked": plan.asked,
        "reached": plan.reached,
        "alignment": plan.alignment,
        "groups": len(plan.groups),
        "channels": _channels(plan),
        "parameters": plan.parameters,
        "macs": plan.macs,
        "kept_whole": [{"layer": one.layer, "width": one.width, "why": one.why} for one in plan.kept_whole],
    }


def _channels(plan: PrunePlan) -> tuple[int, int]:
    return sum(group.width for group in plan.groups), sum(len(group.kept) for group in plan.groups)


def _as_text(plan: PrunePlan, written: Path) -> str:
    figures = {
        "channels": _channels(plan),
        "parameters": plan.parameters,
        f"MACs at {plan.imgsz[0]}x{plan.imgsz[1]}": plan.macs,
    }
    rows = [(name, f"{b:,}", f"{a:,}", f"{1 - a / b:.1%}") for name, (b, a) in figures.items()]
    narrowed = sum(len(group.kept) < group.width for group in plan.groups)
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in plan.kept_whole:
        reasons[one.why].append(f"{one.layer} ({one.width})")
    return "\n".join(
        [
            table(("", "before", "after", "removed"), rows),
            "",
            f"asked for {plan.asked:.1%} of the {plan.budget}, reached {plan.reached:.1%}",
            f"{narrowed} of {len(plan.groups)} groups of coupled channels narrowed, to multiples of {plan.alignment}",
            *(f"kept whole: {', '.join(layers)}: {why}" for why, layers in reasons.items()),
            f"pruned checkpoint: {written}",
        ]
    )

"""`slimdeploy prune`: remove channels for good."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimdeploy.cli._plan_text import as_text, reached_lines, sensitivity_lines, whole_lines
from slimdeploy.cli._shared import ConfigOption, JsonOption, TrustOption, require_data_set, show, table
from slimdeploy.configs import FIGURES, SHARES, PruneConfig, build
from slimdeploy.errors import UsageError
from slimdeploy.records import as_json

if TYPE_CHECKING:
    from slimdeploy.records import PrunePlan

NAME = "prune"
BUDGETS = (*FIGURES, *SHARES)


def command(
    weights: Annotated[Path, typer.Argument(help="The checkpoint, a .pt; best one that sparsify wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to make; it must not exist. Needed without --dry-run.")
    ] = None,
    speedup: Annotated[float | None, typer.Option(help="How many times as fast on the target, such as 2.0.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Milliseconds an image on the target.")] = None,
    fps: Annotated[float | None, typer.Option(help="Images a second on the target.")] = None,
    macs: Annotated[float | None, typer.Option(help="Share of the multiply-accumulates to remove.")] = None,
    channels: Annotated[float | None, typer.Option(help="Share of the channels to remove, such as 0.5.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Where it will run, which gives the widths' steps: see slimdeploy targets.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="The target's latency table, of slimdeploy latency; without it, its model.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A data set's YAML. Its training images show what each group matters to, and the weights that stay "
            "are fitted on them to give what the whole network gave."
        ),
    ] = None,
    reconstruct_images: Annotated[
        int | None,
        typer.Option(help="On how many images of --data they are fitted, at most; 0 leaves them as they are."),
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            help="How channels are ranked: reconstruction (the default with --data), bn_gamma (the default without), "
            "magnitude, taylor (with --data) or random."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="What it will run at on the target: fp32, fp16 or int8; int8 asks for wider steps."),
    ] = None,
    alignment: Annotated[int | None, typer.Option(help="Make widths multiples of this; beats the target.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input that MACs and time are of, in pixels.")] = None,
    least_agreement: Annotated[
        float | None,
        typer.Option(
            help="With --data: least share of the whole network's detections that the cut one must still find, as F1; "
            "0 refuses nothing."
        ),
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Replay this plan.json on the weights it was made for.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan, show the plan, and cut nothing.")] = False,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Remove channels physically; writes pruned.pt and plan.json.

    Example: slimdeploy prune dense.pt --speedup 2 --target cpu --table table.json --data visdrone.yaml --out pruned
    """
    from slimdeploy.stages.decide import Means
    from slimdeploy.stages.plan import config_of, read_plan
    from slimdeploy.stages.prune import PLAN, plan_only, prune
    from slimdeploy.targets import load_target

    flags = {
        "speedup": speedup, "latency_ms": latency_ms, "fps": fps, "macs": macs, "channels": channels,
        "criterion": criterion, "precision": precision, "alignment": alignment, "imgsz": imgsz,
        "reconstruct_images": reconstruct_images, "least_agreement": least_agreement,
    }  # fmt: skip
    if plan is None:
        settings = _settings(flags, config, target)
    elif config or target or table or any(value is not None for value in flags.values()):
        raise UsageError("--plan together with other settings", wanted="--plan alone", do="the plan holds its own")
    else:
        settings = config_of(read_plan(plan))
    require_data_set(data)
    means = Means(target=load_target(target) if target else None, table=table, data=data, plan=plan)
    if dry_run:
        planned = plan_only(weights, settings, trust=trust, means=means)
        show(as_json(planned), text=as_text(planned), as_json=json)
        return
    if out is None:
        raise UsageError("no place for the result", wanted="--out with a folder to make, or --dry-run")
    written = prune(weights, settings, out, trust=trust, means=means)
    decided = read_plan(out / PLAN)
    show(_as_result(decided, written, out / PLAN), text=_as_text(decided, written), as_json=json, complete=out)


def _settings(flags: dict[str, Any], config: Path | None, target: str | None) -> PruneConfig:
    from slimdeploy.recipes import section
    from slimdeploy.targets import alignment_for, load_target

    if flags["precision"] and not target:
        raise UsageError("--precision without a target", wanted="--target, whose widths depend on it")
    recipe = section(config, NAME)
    if any(flags[budget] is not None for budget in BUDGETS):  # a flag's budget replaces the recipe's
        recipe = {name: value for name, value in recipe.items() if name not in BUDGETS}
    from_target: dict[str, Any] = {}
    if target:
        board = load_target(target)
        asked = flags["precision"] or recipe.get("precision")
        from_target = {
            "alignment": alignment_for(board, [asked] if asked else []),
            "precision": "fp16" if board.kind != "cpu" and "fp16" in board.precisions else "fp32",
        }
    return build(PruneConfig, flags, recipe, from_target)


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
        "latency": None if plan.latency is None else as_json(plan.latency),
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
    return "\n".join(
        [
            table(("", "before", "after", "removed"), rows),
            "",
            *reached_lines(plan),
            f"{narrowed} of {len(plan.groups)} groups of coupled channels narrowed, to multiples of {plan.alignment}",
            *sensitivity_lines(plan),
            *whole_lines(plan),
            f"pruned checkpoint: {written}",
        ]
    )

"""`slimdeploy plan`: read plans, and tell them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, show, table
from slimdeploy.records import PrunePlan, as_json

NAME = "plan"
PlanArgument = Annotated[Path, typer.Argument(help="A plan.json, or the folder that prune made.")]

app = typer.Typer(help="Read plans, and tell them apart.", no_args_is_help=True, rich_markup_mode=None)


@app.command(name="show")
def show_plan(plan: PlanArgument, json: JsonOption = False) -> None:
    """Show every layer's width before and after, what that saves, and what was kept whole and why.

    Example: slimdeploy plan show pruned/plan.json
    """
    from slimdeploy.cli._plan_text import as_text

    found = _read(plan)
    show(as_json(found), text=as_text(found), as_json=json)


@app.command()
def diff(first: PlanArgument, second: PlanArgument, json: JsonOption = False) -> None:
    """Show the groups that two plans give different widths, or different channels.

    Example: slimdeploy plan diff pruned-2x pruned-3x
    """
    before, after = _read(first), _read(second)
    found = differences(before, after)
    show(found, text=_as_text(found), as_json=json)


def _read(place: Path) -> PrunePlan:
    from slimdeploy.stages.plan import read_plan

    return read_plan(place / "plan.json" if place.is_dir() else place)


def differences(first: PrunePlan, second: PrunePlan) -> dict[str, Any]:
    """Return what differs between two plans.

    Raises:
        UsageError: they are for networks of other groups.
    """
    from slimdeploy.errors import UsageError

    theirs = {group.name: group for group in second.groups}
    if [(g.name, g.width) for g in first.groups] != [(g.name, g.width) for g in second.groups]:
        raise UsageError("the plans are for networks of different groups", wanted="two plans of one network")
    groups = [
        {
            "group": one.name,
            "width": one.width,
            "kept": [len(one.kept), len(other.kept)],
            "shared": len(set(one.kept) & set(other.kept)),
        }
        for one in first.groups
        if one.kept != (other := theirs[one.name]).kept
    ]
    return {
        "same_weights": first.weights_sha256 == second.weights_sha256,
        "groups": groups,
        "parameters": [first.parameters[1], second.parameters[1]],
        "macs": [first.macs[1], second.macs[1]],
        "asked": [f"{one.budget} {one.asked:g}" for one in (first, second)],
        "criterion": [first.criterion, second.criterion],
    }


def _as_text(found: dict[str, Any]) -> str:
    rows = [
        (one["group"], str(one["width"]), *(str(kept) for kept in one["kept"]), str(one["shared"]))
        for one in found["groups"]
    ]
    figures = [
        (name, *(str(value) for value in found[key]))
        for name, key in (
            ("asked", "asked"),
            ("criterion", "criterion"),
            ("parameters", "parameters"),
            ("MACs", "macs"),
        )
    ]
    lines = [table(("", "first", "second"), figures), ""]
    if not found["same_weights"]:
        lines.insert(0, "the plans are for different weights")
    if not rows:
        return "\n".join([*lines, "the plans keep the same channels"])
    return "\n".join([*lines, table(("group", "before", "first", "second", "kept by both"), rows)])

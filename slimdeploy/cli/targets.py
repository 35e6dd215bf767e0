"""`slimdeploy targets`: the boards and hosts that models are made for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, show, table
from slimdeploy.records import Target, as_json
from slimdeploy.targets import list_targets, load_target

NAME = "targets"
HEADER = ("target", "what it is", "precisions", "widths in", "opset", "memory", "TensorRT")
UNITS = {"memory_gb": "GB", "bandwidth_gbs": "GB/s", "gpu_max_mhz": "MHz"}


def command(
    name: Annotated[str | None, typer.Argument(help="A target, to show all that is known of it.")] = None,
    json: JsonOption = False,
) -> None:
    """List the targets, or show all facts of one.

    Example: slimdeploy targets orin-nano-8gb
    """
    if name is not None:
        target = load_target(name)
        show(as_json(target), text=_facts(target), as_json=json)
        return
    found = list_targets()
    text = table(HEADER, [_row(target) for target in found])
    show({"targets": [as_json(t) for t in found]}, text=f"{text}\n\nAll of one: slimdeploy targets NAME", as_json=json)


def _row(target: Target) -> tuple[str, ...]:
    widths = "/".join(str(target.alignment[p]) for p in target.precisions)
    memory = "-" if target.memory_gb is None else f"{target.memory_gb:g} GB"
    span = "-" if not target.tensorrt else " to ".join(dict.fromkeys((target.tensorrt[0], target.tensorrt[-1])))
    return (target.name, target.title, "/".join(target.precisions), widths, str(target.opset), memory, span)


def _facts(target: Target) -> str:
    facts = as_json(target)
    notes = facts.pop("notes")
    lines = [f"{key:14} {_shown(key, value)}" for key, value in facts.items()]
    return "\n".join([*lines, *(f"{'notes':14} {note}" for note in notes)])


def _shown(key: str, value: Any) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, tuple):
        return ", ".join(value)
    return f"{value:g} {UNITS[key]}" if key in UNITS else str(value)

"""`slimdeploy latency`: measure what every convolution costs at every width."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, TrustOption, show, table
from slimdeploy.configs import LatencyConfig, ShipConfig, build

if TYPE_CHECKING:
    from slimdeploy.latency.table import LatencyTable

NAME = "latency"
SIMULATED = ": a simulated board, so no figure is a board's"


def command(
    target: Annotated[str, typer.Option(help="Whose runtime to measure with: see slimdeploy targets.")],
    out: Annotated[Path, typer.Option("--out", help="The .json file to write; it must not exist.")],
    weights: Annotated[
        Path | None, typer.Argument(help="The checkpoint whose layers to measure; without it, YOLOv8n.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="In place of a checkpoint, a model of ultralytics: yolov8s.yaml.")
    ] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the square input, in pixels.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of weights and activations: fp32 or fp16.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; 0 takes every usable core.")] = None,
    device: Annotated[str | None, typer.Option(help="Measure on this board: ssh://user@board:port/path.")] = None,
    python: Annotated[str | None, typer.Option(help="The board's Python, 3.8 or newer.")] = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Measure milliseconds for every layer and width; prune --table plans by them.

    Interrupted, it goes on where it stopped when it is run again.

    Example: slimdeploy latency dense.pt --target cpu --imgsz 640 --out table.json
    """
    from slimdeploy.devices.address import parse_address
    from slimdeploy.errors import UsageError
    from slimdeploy.latency.table import read_table
    from slimdeploy.stages._timers import Board
    from slimdeploy.stages.latency import latency
    from slimdeploy.targets import alignment_for, load_target

    if weights and network:
        raise UsageError("a checkpoint and --network", wanted="one of them")
    board = load_target(target)
    flags = {"network": network, "imgsz": imgsz, "precision": precision, "threads": threads}
    aligned = {"alignment": alignment_for(board, [precision or LatencyConfig().precision])}
    settings = build(LatencyConfig, flags, aligned)
    on = Board(address=parse_address(device), shipping=build(ShipConfig, {"python": python})) if device else None
    written = latency(weights, board, settings, out, trust=trust, board=on)
    made = read_table(written)
    show(_as_result(made, written), text=_as_text(made, written), as_json=json, complete=written)


def _as_result(made: LatencyTable, written: Path) -> dict[str, Any]:
    fixed_ms, factor = made.fit
    return {
        "table": str(written),
        "shapes": sum(len(times) for times in made.layers.values()),
        "backend": made.backend,
        "threads": made.threads,
        "device": made.device,
        "simulated": made.simulated,
        "imgsz": made.imgsz,
        "noise": made.noise,
        "fixed_ms": fixed_ms,
        "factor": factor,
        "wholes": [
            {
                "predicted_ms": fixed_ms + factor * one.layers_ms,
                "measured_ms": one.measured_ms,
                "noise_ms": one.noise_ms,
            }
            for one in made.wholes
        ],
    }


def _as_text(made: LatencyTable, written: Path) -> str:
    shown = _as_result(made, written)
    rows = [
        (
            str(kind), str(len(times)), f"{(most := max(times, key=lambda t: t.ms)).inputs} to {most.outputs}",
            f"{most.ms:.3f}", f"{most.noise_ms:.3f}",
        )
        for kind, times in made.layers.items()
    ]  # fmt: skip
    wholes = [
        (f"{one['measured_ms']:.2f}", f"{one['noise_ms']:.2f}", f"{one['predicted_ms']:.2f}",
         f"{one['predicted_ms'] / one['measured_ms'] - 1:+.1%}")
        for one in shown["wholes"]
    ]  # fmt: skip
    return "\n".join(
        [
            table(("convolutions", "shapes", "the slowest", "ms", "noise ms"), rows),
            "",
            table(("whole networks: measured ms", "noise ms", "from the table ms", "off"), wholes),
            "",
            f"{shown['shapes']} shapes, noise {made.noise:.0%} in the middle; {made.backend} "
            f"{made.backend_version}, {made.threads} threads, {made.imgsz[0]}x{made.imgsz[1]}, {made.precision}",
            f"a network takes {made.fit[0]:.2f} ms and {made.fit[1]:.2f} times the sum of its layers",
            *([f"measured on {made.device}{SIMULATED if made.simulated else ''}"] if made.device else []),
            f"latency table: {written}",
        ]
    )

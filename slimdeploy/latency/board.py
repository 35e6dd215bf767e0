"""The model of a board that is not at hand: compute, memory traffic and launch cost of every layer."""

from __future__ import annotations

from slimdeploy.channels import Coupling
from slimdeploy.errors import TargetError
from slimdeploy.latency.table import REMAKE, LatencyTable
from slimdeploy.records import Target


def board_forecast(target: Target, coupling: Coupling, precision: str) -> LatencyTable:
    raise TargetError(
        f"the target {target.name} has no latency table",
        wanted="milliseconds by layer to plan with",
        do=REMAKE.format(target=target.name, imgsz=coupling.imgsz[0]) + ", and name it with --table",
    )

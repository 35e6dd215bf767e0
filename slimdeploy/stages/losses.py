"""What narrowing a group loses: its height is a measured sensitivity, its shape the importance of its channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from slimdeploy.channels import Coupling
from slimdeploy.records import Sensitivity
from slimdeploy.stages.planner import Cost
from slimdeploy.stages.widths import Unit, units_of

LEAST_SHARE = 0.99  # of a unit's importance that a trial keeps at most, so that a loss is never divided by nothing
LEAST_LOSS = 0.01  # of the largest damage: a unit whose trial did nothing to the outputs still costs this much


def planned_units(coupling: Coupling, alignment: int, least_share: float) -> tuple[Unit, ...]:
    """Return what the planner may narrow: aligned widths from the least share upwards, and the whole width.

    Args:
        coupling: the network.
        alignment: widths are multiples of this many channels.
        least_share: of its channels that every group keeps.
    """
    units = []
    for unit in units_of(coupling.groups, alignment):
        choices = {choice for choice in unit.choices if choice >= least_share * unit.width} | {unit.width}
        units.append(Unit(names=unit.names, width=unit.width, choices=tuple(sorted(choices))))
    return tuple(units)


def trial_width(unit: Unit) -> int:
    """Return the width at which a unit's sensitivity is tried: half of it, or what comes nearest."""
    narrower = unit.choices[:-1] or unit.choices
    return min(narrower, key=lambda choice: (abs(choice - unit.width / 2), choice))


def costs_of(
    units: Sequence[Unit], importance: Mapping[str, Sequence[float]], sensitivities: Sequence[Sensitivity]
) -> tuple[Cost, ...]:
    """Return what narrowing each unit costs.

    The loss at a width is the logarithm of the share of importance that goes, scaled so that at the trial's width it is
    the damage that the trial did. A logarithm has no end: the fewer channels are left, the more the next one costs, so
    that no group is emptied because another one would save little.

    Args:
        units: what can be narrowed.
        importance: one value a channel, for every group by its name.
        sensitivities: one for each unit, in the same order.
    """
    least = LEAST_LOSS * max((one.damage for one in sensitivities), default=0.0) or LEAST_LOSS
    costs = []
    for unit, tried in zip(units, sensitivities, strict=True):
        kept = {choice: _kept(unit, importance, choice) for choice in (*unit.choices, tried.tried)}
        height = max(tried.damage, least) / -math.log(min(kept[tried.tried], LEAST_SHARE))
        costs.append(Cost(unit=unit, losses=tuple(height * -math.log(kept[choice]) for choice in unit.choices)))
    return tuple(costs)


def _kept(unit: Unit, importance: Mapping[str, Sequence[float]], width: int) -> float:
    """Return the share of a unit's importance that its strongest channels hold."""
    shares = []
    for name in unit.names:
        ranked = sorted(importance[name], reverse=True)
        total = sum(ranked)
        shares.append(sum(ranked[:width]) / total if total > 0 else width / unit.width)
    return max(sum(shares) / len(shares), 1e-9)

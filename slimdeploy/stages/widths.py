"""The widths that groups of channels may have; the two halves of a C2f are one choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from slimdeploy.channels import CoupledGroup

Widths = dict[str, int]  # channels that each group keeps, by its name


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Groups that keep equally many channels, and the widths they may have, the narrowest first."""

    names: tuple[str, ...]
    width: int
    choices: tuple[int, ...]


def units_of(groups: Sequence[CoupledGroup], alignment: int) -> tuple[Unit, ...]:
    """Return what can be narrowed, in the network's order; a width that is no choice stays as it is."""
    units: list[Unit] = []
    seen: set[str] = set()
    for group in groups:
        if group.name not in seen:
            names = (group.name, group.tied_to) if group.tied_to else (group.name,)
            choices = tuple(range(alignment, group.width + 1, alignment)) or (group.width,)
            units.append(Unit(names=names, width=group.width, choices=choices))
            seen.update(names)
    return tuple(units)


def equal_shares(units: Sequence[Unit], ratio: float) -> Widths:
    """Return every width less the share `ratio`, rounded to the nearest choice, up when between two."""
    widths: Widths = {}
    for unit in units:
        wish = unit.width * (1 - ratio)
        nearest = min(unit.choices, key=lambda choice: (abs(choice - wish), -choice))
        widths |= dict.fromkeys(unit.names, nearest)
    return widths


def random_widths(units: Sequence[Unit], seed: int) -> Widths:
    """Return a seeded random choice for every unit."""
    chance = random.Random(seed)
    widths: Widths = {}
    for unit in units:
        widths |= dict.fromkeys(unit.names, chance.choice(unit.choices))
    return widths

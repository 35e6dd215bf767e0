"""Choose widths: the least loss within so many milliseconds, over all groups together. Touches no weight.

Greedy, from the whole network down: of all ways to narrow one unit by one or a few steps, take the one that loses
least for each millisecond it saves, until the network is quick enough; then give back whatever still fits. Several
steps are looked at together since hardware computes channels in blocks: one step alone often saves nothing. The same
input gives the same widths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from slimdeploy.channels import ConvLayer, Coupling
from slimdeploy.stages.widths import Unit, Widths

LOOK_AHEAD = 4  # steps of one unit that are looked at together


class Forecast(Protocol):
    """What tells how long a convolution takes: a measured table, or the model of a board."""

    @property
    def source(self) -> str:
        """Where its milliseconds come from, in words."""

    @property
    def measured(self) -> bool:
        """Whether they were measured."""

    @property
    def here(self) -> bool:
        """Whether they are this machine's, which can then time whole plans, too."""

    @property
    def fixed_ms(self) -> float:
        """Milliseconds that no width changes."""

    def layer_ms(self, layer: ConvLayer, outputs: int, inputs: int) -> float:
        """Return the milliseconds of a convolution at given widths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A unit and what narrowing it costs.

    Attributes:
        unit: groups that keep equally many channels.
        losses: what is lost at each of the unit's choices; falls as the choices get wider, 0 for the whole width.
    """

    unit: Unit
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Touch:
    """What one channel of a unit is to a convolution: so many outputs, and so many inputs."""

    layer: ConvLayer
    outputs: int
    inputs: int


def forecast_ms(coupling: Coupling, widths: Mapping[str, int], forecast: Forecast) -> float:
    """Return the milliseconds of a whole network at given widths."""
    shapes = coupling.shapes(widths)
    moving = {touch.layer.name: touch.layer for touches in _touches(coupling).values() for touch in touches}
    return forecast.fixed_ms + sum(forecast.layer_ms(layer, *shapes[name]) for name, layer in moving.items())


def saved_ms(coupling: Coupling, widths: Mapping[str, int], forecast: Forecast) -> dict[str, float]:
    """Return the milliseconds that each convolution saves at given widths, for those that change, by name."""
    before, after = coupling.shapes(coupling.whole()), coupling.shapes(widths)
    return {
        layer.name: forecast.layer_ms(layer, *before[layer.name]) - forecast.layer_ms(layer, *after[layer.name])
        for layer in coupling.layers
        if before[layer.name] != after[layer.name] and layer.positions
    }


def choose_widths(coupling: Coupling, costs: Sequence[Cost], forecast: Forecast, budget_ms: float) -> Widths:
    """Return the widths that lose least and take at most `budget_ms`; the narrowest widths where none is that quick.

    Args:
        coupling: the network.
        costs: every unit with what narrowing it costs.
        forecast: milliseconds by layer.
        budget_ms: for the whole network.
    """
    bill = _Bill(coupling, costs, forecast)
    while bill.total_ms > budget_ms and (move := bill.cheapest()) is not None:
        bill.take(*move)
    while (move := bill.dearest_that_fits(budget_ms)) is not None:
        bill.take(*move)
    return bill.widths


class _Bill:
    """The milliseconds of a network at its present widths, and what the next step would change."""

    def __init__(self, coupling: Coupling, costs: Sequence[Cost], forecast: Forecast) -> None:
        self.widths: Widths = coupling.whole()
        self._costs, self._forecast = costs, forecast
        self._touches = [_of_unit(cost.unit, _touches(coupling)) for cost in costs]
        self._at = [_whole(cost) for cost in costs]
        self._shapes = dict(coupling.shapes(self.widths))
        self._known: dict[tuple[str, int, int], float] = {}
        self._best: dict[int, tuple[float, int] | None] = {}
        self._neighbours = self._find_neighbours()
        self.total_ms = forecast_ms(coupling, self.widths, forecast)

    def _find_neighbours(self) -> list[set[int]]:
        readers: dict[str, set[int]] = defaultdict(set)
        for number, touches in enumerate(self._touches):
            for touch in touches:
                readers[touch.layer.name].add(number)
        return [set().union(*(readers[t.layer.name] for t in touches)) for touches in self._touches]

    def cheapest(self) -> tuple[int, int] | None:
        """Return the unit and the narrower choice that lose least a millisecond saved, or None if nothing saves any."""
        for number in range(len(self._costs)):
            if number not in self._best:
                self._best[number] = self._cheapest_of(number)
        found = [(best[0], number, best[1]) for number, best in self._best.items() if best is not None]
        return min(found)[1:] if found else None

    def dearest_that_fits(self, budget_ms: float) -> tuple[int, int] | None:
        """Return the unit and the wider choice that give back most and keep to the budget, or None."""
        found = [
            (self._costs[number].losses[at] - self._costs[number].losses[choice], -number, choice)
            for number, at in enumerate(self._at)
            for choice in range(at + 1, min(at + LOOK_AHEAD, len(self._costs[number].losses) - 1) + 1)
            if self.total_ms - self._saved_ms(number, choice) <= budget_ms
        ]
        if not found:
            return None
        _, number, choice = max(found)
        return -number, choice

    def take(self, number: int, choice: int) -> None:
        """Give a unit one of its choices."""
        self.total_ms -= self._saved_ms(number, choice)
        for touch, shape in self._changed(number, choice):
            self._shapes[touch.layer.name] = shape
        unit = self._costs[number].unit
        self.widths |= dict.fromkeys(unit.names, unit.choices[choice])
        self._at[number] = choice
        for neighbour in self._neighbours[number]:
            self._best.pop(neighbour, None)

    def _cheapest_of(self, number: int) -> tuple[float, int] | None:
        losses, at = self._costs[number].losses, self._at[number]
        found = []
        for choice in range(at - 1, max(at - LOOK_AHEAD, 0) - 1, -1):
            saved_ms = self._saved_ms(number, choice)
            if saved_ms > 0:
                found.append(((losses[choice] - losses[at]) / saved_ms, choice))
        return min(found, default=None)

    def _saved_ms(self, number: int, choice: int) -> float:
        return sum(
            self._ms(touch.layer, self._shapes[touch.layer.name]) - self._ms(touch.layer, shape)
            for touch, shape in self._changed(number, choice)
        )

    def _changed(self, number: int, choice: int) -> Iterator[tuple[_Touch, tuple[int, int]]]:
        choices = self._costs[number].unit.choices
        gone = choices[self._at[number]] - choices[choice]
        for touch in self._touches[number]:
            outputs, inputs = self._shapes[touch.layer.name]
            yield touch, (outputs - gone * touch.outputs, inputs - gone * touch.inputs)

    def _ms(self, layer: ConvLayer, shape: tuple[int, int]) -> float:
        key = (layer.name, *shape)
        if key not in self._known:
            self._known[key] = self._forecast.layer_ms(layer, *shape)
        return self._known[key]


def _whole(cost: Cost) -> int:
    assert cost.unit.choices[-1] == cost.unit.width, cost.unit
    return len(cost.unit.choices) - 1


def _touches(coupling: Coupling) -> dict[str, list[_Touch]]:
    """Return, for every group by its name, the convolutions that one of its channels is an output or input of."""
    layers = {layer.name: layer for layer in coupling.layers}
    found = {}
    for group in coupling.groups:
        made, read = dict.fromkeys(group.layers, 1), {r.layer: len(r.offsets) for r in group.readers}
        found[group.name] = [
            _Touch(layer=layers[name], outputs=made.get(name, 0), inputs=read.get(name, 0))
            for name in {**made, **read}
            if layers[name].positions  # else it runs in training alone
        ]
    return found


def _of_unit(unit: Unit, touches: Mapping[str, Sequence[_Touch]]) -> list[_Touch]:
    outputs: dict[str, int] = defaultdict(int)
    inputs: dict[str, int] = defaultdict(int)
    layers: dict[str, ConvLayer] = {}
    for touch in (one for name in unit.names for one in touches[name]):
        layers[touch.layer.name] = touch.layer
        outputs[touch.layer.name] += touch.outputs
        inputs[touch.layer.name] += touch.inputs
    return [_Touch(layer=layer, outputs=outputs[name], inputs=inputs[name]) for name, layer in layers.items()]

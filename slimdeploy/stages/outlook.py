"""Foresee what a latency budget does to a network, in seconds, before anything is tried, built or measured.

The widths are those of a planner that knows nothing of the weights: of every unit, each halving of its width counts the
same. They say how much of the network must go, not which channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from slimdeploy.channels import Coupling
from slimdeploy.stages.planner import Cost, Forecast, choose_widths, forecast_ms
from slimdeploy.stages.widths import Unit

FEW_MACS = 0.10  # share of the MACs: no network in benchmarks/ that kept less kept its accuracy, too
SAFE_MACS = 0.25  # share of the MACs that a suggestion leaves; at 0.39, aerial_cars lost nothing that could be shown
HALVINGS = 12  # of the range in which a suggestion is searched

StockScale = tuple[str, float]  # its name, such as yolov8n, and its milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a latency budget leaves of a network, by a forecast; milliseconds are the forecast's.

    Attributes:
        dense_ms: of the whole network.
        asked_ms: the budget.
        floor_ms: what no width changes: launches, and layers that no plan narrows.
        narrowest_ms: of the network with every group as narrow as a plan may make it.
        macs_left: share of the multiply-accumulates that stay within the budget.
        safe_speedup: speed-up that leaves `SAFE_MACS` of them.
        stock: the largest smaller scale of the same family that is as fast, or the smallest one where none is, with its
            milliseconds; None where there is no smaller scale, or the forecast does not know it.
    """

    dense_ms: float
    asked_ms: float
    floor_ms: float
    narrowest_ms: float
    macs_left: float
    safe_speedup: float
    stock: StockScale | None = None

    @property
    def severe(self) -> bool:
        """Whether so little stays that the accuracy is at risk."""
        return self.macs_left < FEW_MACS

    def lines(self) -> list[str]:
        """Return the outlook for a person, a sentence a line."""
        shares = f"{self.floor_ms:.2f} ms of them ({self.floor_ms / self.dense_ms:.0%}) are costs that no width changes"
        lines = [
            f"{self.asked_ms:.2f} of {self.dense_ms:.2f} ms are asked for; {shares}",
            f"about {self.macs_left:.0%} of the multiply-accumulates can stay",
        ]
        if self.stock is not None:
            name, stock_ms = self.stock
            lines.append(f"a stock {name}, with all its channels, takes {stock_ms:.2f} ms by the same forecast")
        return lines

    @property
    def advice(self) -> str:
        """What to do instead where the outlook is severe."""
        as_fast = self.stock is not None and self.stock[1] <= self.asked_ms
        smaller = f"train a {self.stock[0]} instead, which is as fast, " if self.stock and as_fast else ""
        return (
            f"so little left usually costs most of the accuracy; ask for a speed-up of {self.safe_speedup:.2f} or less,"
            f" {smaller}or take a smaller --imgsz"
        )


def outlook(
    coupling: Coupling,
    units: Sequence[Unit],
    forecast: Forecast,
    asked_ms: float,
    stock: Callable[[], Iterable[StockScale]] = tuple,
) -> Outlook:
    """Return what a budget leaves of a network.

    Args:
        coupling: the network.
        units: what a plan may narrow.
        forecast: milliseconds by layer.
        asked_ms: the budget, in the forecast's milliseconds.
        stock: gives the smaller stock scales of the family, the largest first; called only where little is left.
    """
    costs = _even_costs(units)

    def macs_left(budget_ms: float) -> float:
        widths = choose_widths(coupling, costs, forecast, budget_ms)
        return coupling.macs(widths) / coupling.macs(coupling.whole())

    dense_ms = forecast_ms(coupling, coupling.whole(), forecast)
    narrowest_ms = forecast_ms(coupling, choose_widths(coupling, costs, forecast, 0.0), forecast)
    left = macs_left(asked_ms)
    return Outlook(
        dense_ms=dense_ms,
        asked_ms=asked_ms,
        floor_ms=floor_ms(coupling, forecast),
        narrowest_ms=narrowest_ms,
        macs_left=left,
        safe_speedup=dense_ms / _budget_leaving(SAFE_MACS, macs_left, narrowest_ms, dense_ms),
        stock=_as_fast(stock(), asked_ms) if left < SAFE_MACS else None,
    )


def floor_ms(coupling: Coupling, forecast: Forecast) -> float:
    """Return the milliseconds of a network whose convolutions all had a single input and a single output channel."""
    single = dict.fromkeys(coupling.whole(), 1)
    return forecast_ms(coupling, single, forecast)


def _even_costs(units: Sequence[Unit]) -> tuple[Cost, ...]:
    return tuple(
        Cost(unit=unit, losses=tuple(-math.log(choice / unit.width) for choice in unit.choices)) for unit in units
    )


def _budget_leaving(share: float, macs_left: Callable[[float], float], low_ms: float, high_ms: float) -> float:
    """Return the smallest budget that leaves a share of the multiply-accumulates."""
    for _ in range(HALVINGS):
        middle = (low_ms + high_ms) / 2
        low_ms, high_ms = (low_ms, middle) if macs_left(middle) >= share else (middle, high_ms)
    return high_ms


def _as_fast(stock: Iterable[StockScale], asked_ms: float) -> StockScale | None:
    smallest = None
    for smallest in stock:
        if smallest[1] <= asked_ms:
            break
    return smallest

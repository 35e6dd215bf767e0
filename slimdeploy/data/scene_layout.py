"""Decide what a rendered scene holds and where: roads, plots beside them, and the things that get labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slimdeploy.data.scene_frame import Frame, Thing, choose, rotation
from slimdeploy.data.scene_objects import new_thing

LANE_M, PAVEMENT_M, KERB_LANE_M = 3.3, 2.4, 2.6
BAY_M = (2.8, 6.4)  # width and depth of a place in a car park
SHADOW_REACH_M = 6.0  # how far from the picture a thing's body or shadow still enters it
PLOTS = ("roofs", "field", "parking", "grass")
VEHICLES = ("car", "van", "truck")
VEHICLES_UP_TO = (0.46, 0.74, 1.0)  # their shares in traffic, added up: small classes are learnt in a short demo too


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A straight road along the x axis of its own coordinates.

    Attributes:
        middle: distance of its centre line from the scene's origin, in metres.
        across: whether it runs along the scene's y axis instead.
        lanes: of both directions together.
        kerb_lanes: on which sides (-1, 1) cars are parked.
    """

    middle: float
    across: bool
    lanes: int
    kerb_lanes: tuple[int, ...] = ()

    @property
    def half_m(self) -> float:
        """Half the width of the lanes that traffic uses."""
        return self.lanes * LANE_M / 2

    def edge_m(self, side: int) -> float:
        """Distance from the centre line to the kerb on one side."""
        return self.half_m + (KERB_LANE_M if side in self.kerb_lanes else 0.0)

    def scene(self, along: float, beside: float) -> tuple[float, float]:
        """Return scene coordinates of a point given along the road and beside its centre line."""
        return (self.middle + beside, along) if self.across else (along, self.middle + beside)

    def heading(self, forward: bool) -> float:
        """Return the direction of travel, in radians."""
        return (math.pi / 2 if self.across else 0.0) + (0.0 if forward else math.pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The ground on one side of the main road.

    Attributes:
        use: one of PLOTS.
        y0: nearer edge, in metres.
        y1: farther edge; beyond the picture.
        bays: centres of the bays of a car park.
        roofs: rectangles (x0, y0, x1, y1) of houses.
    """

    use: str
    y0: float
    y1: float
    bays: tuple[tuple[float, float], ...] = ()
    roofs: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that is painted; metres in scene coordinates.

    Attributes:
        frame: the camera.
        roads: the main road, and perhaps one that crosses it.
        plots: the ground on both sides of the main road.
        things: what gets a label.
        trees: centre x, centre y and radius of crowns, which cover what stands below.
    """

    frame: Frame
    roads: tuple[Road, ...]
    plots: tuple[Plot, ...]
    things: tuple[Thing, ...]
    trees: tuple[tuple[float, float, float], ...]


def new_scene(rng: np.random.Generator, frame: Frame) -> Scene:
    """Return a scene chosen by chance."""
    roads = _roads(rng, frame)
    plots = tuple(_plot(rng, roads, side, frame.reach_m) for side in (-1, 1))
    things: list[Thing] = []
    for road in roads:
        _drive(rng, road, roads, frame.reach_m, things)
        _park_at_kerb(rng, road, roads, frame.reach_m, things)
    for plot in plots:
        _park_in_bays(rng, plot, things)
    _walk(rng, roads, plots, frame.reach_m, things)
    trees = _trees(rng, plots, roads, frame.reach_m)
    near = tuple(thing for thing in things if frame.shows(thing.at, SHADOW_REACH_M))
    return Scene(frame=frame, roads=roads, plots=plots, things=near, trees=trees)


def _roads(rng: np.random.Generator, frame: Frame) -> tuple[Road, ...]:
    reach = frame.reach_m
    kerbs = tuple(side for side in (-1, 1) if rng.random() < 0.4)
    main = Road(
        middle=rng.uniform(-0.3, 0.3) * reach, across=False, lanes=choose(rng, (2, 2, 2, 3, 4)), kerb_lanes=kerbs
    )
    if rng.random() < 0.55:
        return (main,)
    return main, Road(middle=rng.uniform(-0.5, 0.5) * reach, across=True, lanes=2)


def _plot(rng: np.random.Generator, roads: Sequence[Road], side: int, reach: float) -> Plot:
    main = roads[0]
    y0 = main.middle + side * (main.edge_m(side) + PAVEMENT_M)
    y1 = side * (reach + 4)
    use = choose(rng, PLOTS)
    free = _spans_beside(roads[1:], reach)
    if use == "parking":
        bays = [(x, y0 + side * (BAY_M[1] / 2 + row)) for row in (0.0, BAY_M[1] + 5.5) for x in _bays(free)]
        return Plot(use=use, y0=y0, y1=y1, bays=tuple(bays))
    if use == "roofs":
        return Plot(use=use, y0=y0, y1=y1, roofs=tuple(_roofs(rng, free, y0, side)))
    return Plot(use=use, y0=y0, y1=y1)


def _spans_beside(crossing: Sequence[Road], reach: float) -> list[tuple[float, float]]:
    if not crossing:
        return [(-reach, reach)]
    gap = crossing[0].half_m + PAVEMENT_M + 0.5
    return [(-reach, crossing[0].middle - gap), (crossing[0].middle + gap, reach)]


def _bays(spans: Sequence[tuple[float, float]]) -> list[float]:
    return [float(x) for x0, x1 in spans for x in np.arange(x0 + BAY_M[0] / 2, x1 - BAY_M[0] / 2, BAY_M[0])]


def _roofs(
    rng: np.random.Generator, spans: Sequence[tuple[float, float]], y0: float, side: int
) -> list[tuple[float, float, float, float]]:
    roofs = []
    for x0, x1 in spans:
        x = x0 + rng.uniform(0, 3)
        while x < x1 - 4:
            width, depth, yard = rng.uniform(6, 13), rng.uniform(6, 11), rng.uniform(1.2, 4)
            near, far = y0 + side * yard, y0 + side * (yard + depth)
            roofs.append((x, min(near, far), min(x + width, x1), max(near, far)))
            x += width + rng.uniform(1.5, 6)
    return roofs


def _kind(rng: np.random.Generator) -> str:
    return VEHICLES[int(np.searchsorted(VEHICLES_UP_TO, rng.random()))]


def _drive(rng: np.random.Generator, road: Road, roads: Sequence[Road], reach: float, things: list[Thing]) -> None:
    busy = rng.uniform(1.5, 9.0)
    for lane in range(road.lanes):
        beside = (lane + 0.5) * LANE_M - road.half_m
        along = -reach + rng.uniform(0, 8)
        while along < reach:
            heading = road.heading(lane < (road.lanes + 1) // 2) + rng.normal(0, 0.035)
            at = road.scene(along, beside + rng.normal(0, 0.15))
            thing = new_thing(rng, _kind(rng), at, heading)
            if not (road.across and _on_main(roads[0], thing)) and _is_free(thing, things):
                things.append(thing)
            along += thing.length + rng.uniform(1.0, 2.0) + rng.exponential(busy)


def _on_main(main: Road, thing: Thing) -> bool:
    return abs(thing.at[1] - main.middle) < max(main.edge_m(-1), main.edge_m(1)) + thing.length / 2 + 0.5


def _park_at_kerb(
    rng: np.random.Generator, road: Road, roads: Sequence[Road], reach: float, things: list[Thing]
) -> None:
    for side in road.kerb_lanes:
        for x0, x1 in _spans_beside(roads[1:], reach):
            along = x0 + rng.uniform(2, 6)
            while along < x1 - 3:
                at = road.scene(along, side * (road.half_m + KERB_LANE_M / 2 - 0.1) + rng.normal(0, 0.08))
                thing = new_thing(rng, _kind(rng), at, road.heading(side < 0) + rng.normal(0, 0.03))
                if _is_free(thing, things):
                    things.append(thing)
                along += thing.length + rng.uniform(0.6, 1.5) + rng.exponential(3.0)


def _park_in_bays(rng: np.random.Generator, plot: Plot, things: list[Thing]) -> None:
    full = rng.uniform(0.35, 0.8)
    for bay in plot.bays:
        if rng.random() < full:
            heading = choose(rng, (1, -1)) * math.pi / 2 + rng.normal(0, 0.04)
            at = (bay[0] + rng.normal(0, 0.1), bay[1] + rng.normal(0, 0.2))
            thing = new_thing(rng, _kind(rng), at, heading)
            if _is_free(thing, things):
                things.append(thing)


def _walk(
    rng: np.random.Generator, roads: Sequence[Road], plots: Sequence[Plot], reach: float, things: list[Thing]
) -> None:
    for _ in range(int(rng.integers(6, 20))):
        road = choose(rng, roads)
        side = choose(rng, (-1, 1))
        beside = side * (road.edge_m(side) + rng.uniform(0.3, PAVEMENT_M))
        if rng.random() < 0.25:
            beside = rng.uniform(-reach, reach)
        at = road.scene(rng.uniform(-reach, reach), beside)
        person = new_thing(rng, "pedestrian", at, rng.uniform(0, 2 * math.pi))
        if not _on_roof(person, plots) and _is_free(person, things):
            things.append(person)


def _on_roof(thing: Thing, plots: Sequence[Plot]) -> bool:
    x, y = thing.at
    return any(x0 < x < x1 and y0 < y < y1 for plot in plots for x0, y0, x1, y1 in plot.roofs)


def _is_free(thing: Thing, others: Sequence[Thing]) -> bool:
    """Whether a thing keeps clear of the others: no corner or centre of one lies in another, with a margin."""
    return not any(_touch(thing, other) or _touch(other, thing) for other in others)


def _touch(thing: Thing, other: Thing) -> bool:
    dx, dy = thing.at[0] - other.at[0], thing.at[1] - other.at[1]
    if math.hypot(dx, dy) > (thing.length + other.length) / 2 + 1:
        return False
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1], [0, 1], [0, -1], [1, 0], [-1, 0], [0, 0]], dtype=float)
    local = (thing.place(corners) - np.array(other.at)) @ rotation(other.heading)
    reach = np.array([other.length / 2 + 0.3, other.width / 2 + 0.3])
    return bool((np.abs(local) < reach).all(axis=1).any())


def _trees(
    rng: np.random.Generator, plots: Sequence[Plot], roads: Sequence[Road], reach: float
) -> tuple[tuple[float, float, float], ...]:
    trees = []
    for plot in plots:
        for _ in range(int(rng.integers(1, 8))):
            y = plot.y0 + np.sign(plot.y1) * (rng.uniform(0.3, 2.0) if rng.random() < 0.4 else rng.uniform(1, reach))
            trees.append((float(rng.uniform(-reach, reach)), float(y), float(rng.uniform(0.9, 2.6))))
    clear = [t for t in trees if not any(r.across and abs(t[0] - r.middle) < r.half_m + t[2] for r in roads)]
    return tuple(clear)

"""Paint a rendered scene's ground: fields, roads with their markings, roofs and trees."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from slimdeploy.data.scene_frame import Canvas, Colour, Frame, Mask, Points, choose, disc, lighter, rectangle
from slimdeploy.data.scene_layout import BAY_M, PAVEMENT_M, Plot, Road, Scene
from slimdeploy.data.scene_objects import fill, mark

WHITE: Colour = (225, 228, 228)
GRASS: tuple[Colour, ...] = ((62, 112, 84), (70, 128, 106), (58, 98, 72), (84, 134, 128))
SOIL: tuple[Colour, ...] = ((88, 122, 150), (104, 138, 160), (70, 100, 126))
ASPHALT: tuple[Colour, ...] = ((92, 90, 88), (112, 110, 108), (78, 76, 76), (126, 126, 124))
PAVEMENT: tuple[Colour, ...] = ((158, 162, 166), (142, 146, 150), (150, 160, 172))
TILES: tuple[Colour, ...] = ((70, 88, 156), (62, 70, 120), (96, 98, 104), (150, 152, 154), (84, 104, 128))
CROWNS: tuple[Colour, ...] = ((38, 78, 46), (46, 92, 62), (34, 66, 44), (50, 100, 84))

ROOF_HEIGHT_M, TREE_HEIGHT_M = 5.0, 4.0


def paint_ground(rng: np.random.Generator, scene: Scene) -> Canvas:
    """Return a canvas with everything that lies flat: plots, roads and markings."""
    frame = scene.frame
    canvas = np.empty((frame.side_px, frame.side_px, 3), dtype=np.uint8)
    canvas[:] = choose(rng, GRASS)
    for plot in scene.plots:
        _paint_plot(rng, plot, frame, canvas)
    _mottle(rng, canvas, strength=12)
    asphalt, pavement = choose(rng, ASPHALT), choose(rng, PAVEMENT)
    for road in scene.roads:
        _strip(road, frame, canvas, road.edge_m(-1) + PAVEMENT_M, road.edge_m(1) + PAVEMENT_M, pavement)
    for road in scene.roads:
        _strip(road, frame, canvas, road.edge_m(-1) + 0.15, road.edge_m(1) + 0.15, lighter(pavement, 0.2))
        _strip(road, frame, canvas, road.edge_m(-1), road.edge_m(1), asphalt)
    _mark_roads(rng, scene.roads, frame, canvas)
    return canvas


def shadow_polygons(scene: Scene) -> list[Points]:
    """Return the shadows of roofs and trees, each a polygon in metres."""
    sun = np.array(scene.frame.sun)
    polygons = []
    for plot in scene.plots:
        for roof in plot.roofs:
            foot = rectangle(*roof)
            hull = cv2.convexHull(np.concatenate([foot, foot + sun * ROOF_HEIGHT_M]).astype(np.float32))
            polygons.append(np.asarray(hull[:, 0, :], dtype=np.float64))
    for x, y, radius in scene.trees:
        polygons.append(disc(x, y, radius) + sun * TREE_HEIGHT_M)
    return polygons


def paint_roofs(rng: np.random.Generator, scene: Scene, canvas: Canvas) -> None:
    """Paint every roof: two slopes, of which the one towards the sun is lighter, and a ridge."""
    for plot in scene.plots:
        for x0, y0, x1, y1 in plot.roofs:
            tile, middle = choose(rng, TILES), (y0 + y1) / 2
            if rng.random() < 0.3:
                fill(rectangle(x0, y0, x1, y1), scene.frame, canvas, lighter(tile, 0.3))
                fill(rectangle(x0 + 0.5, y0 + 0.5, x1 - 0.5, y1 - 0.5), scene.frame, canvas, lighter(tile, 0.12))
                continue
            lit = 0.14 if scene.frame.sun[1] > 0 else -0.2
            fill(rectangle(x0, y0, x1, middle), scene.frame, canvas, lighter(tile, lit))
            fill(rectangle(x0, middle, x1, y1), scene.frame, canvas, lighter(tile, -0.06 - lit))
            fill(rectangle(x0, middle - 0.12, x1, middle + 0.12), scene.frame, canvas, lighter(tile, 0.3))


def paint_trees(rng: np.random.Generator, scene: Scene, canvas: Canvas, owners: Mask) -> None:
    """Paint every crown, and clear what it covers from the mask of owners."""
    for x, y, radius in scene.trees:
        crown = choose(rng, CROWNS)
        fill(disc(x, y, radius), scene.frame, canvas, crown)
        mark(disc(x, y, radius), scene.frame, owners, 0)
        for _ in range(int(7 * radius)):
            turn, out, size = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.85), rng.uniform(0.15, 0.4)
            spot = disc(x + out * radius * math.cos(turn), y + out * radius * math.sin(turn), size * radius)
            fill(spot, scene.frame, canvas, lighter(crown, float(rng.uniform(-0.25, 0.25))))
            mark(spot, scene.frame, owners, 0)


def _paint_plot(rng: np.random.Generator, plot: Plot, frame: Frame, canvas: Canvas) -> None:
    reach = frame.reach_m
    area = rectangle(-reach, plot.y0, reach, plot.y1)
    if plot.use == "parking":
        asphalt = lighter(choose(rng, ASPHALT), 0.1)
        fill(area, frame, canvas, asphalt)
        for x, y in plot.bays:
            for edge in (x - BAY_M[0] / 2, x + BAY_M[0] / 2):
                fill(rectangle(edge - 0.06, y - BAY_M[1] / 2, edge + 0.06, y + BAY_M[1] / 2), frame, canvas, WHITE)
    elif plot.use == "field":
        _paint_field(rng, area, frame, canvas)
    else:
        fill(area, frame, canvas, choose(rng, GRASS))


def _paint_field(rng: np.random.Generator, area: Points, frame: Frame, canvas: Canvas) -> None:
    colour, pitch = choose(rng, GRASS + SOIL), rng.uniform(0.9, 2.2)
    dark, turn = lighter(colour, -0.14), rng.uniform(-0.5, 0.5)
    fill(area, frame, canvas, colour)
    low, high = area[:, 1].min(), area[:, 1].max()
    for x in np.arange(area[:, 0].min(), area[:, 0].max(), pitch):
        slant = turn * (high - low)
        stripe = np.array([[x, low], [x + pitch * 0.45, low], [x + pitch * 0.45 + slant, high], [x + slant, high]])
        fill(stripe, frame, canvas, dark)


def _strip(road: Road, frame: Frame, canvas: Canvas, before: float, after: float, colour: Colour) -> None:
    ends = [road.scene(a, b) for a, b in ((-frame.reach_m, -before), (frame.reach_m, -before),
                                          (frame.reach_m, after), (-frame.reach_m, after))]  # fmt: skip
    fill(np.array(ends), frame, canvas, colour)


def _line(road: Road, frame: Frame, canvas: Canvas, along: tuple[float, float], beside: tuple[float, float]) -> None:
    corners = [road.scene(a, b) for a, b in rectangle(along[0], beside[0], along[1], beside[1])]
    fill(np.array(corners), frame, canvas, WHITE)


def _mark_roads(rng: np.random.Generator, roads: Sequence[Road], frame: Frame, canvas: Canvas) -> None:
    reach = frame.reach_m
    for road in roads:
        gaps = _junctions(road, roads)
        for edge in (-road.half_m + 0.2, road.half_m - 0.2):
            for start, end in _without(gaps, -reach, reach):
                _line(road, frame, canvas, (start, end), (edge - 0.07, edge + 0.07))
        for lane in range(1, road.lanes):
            beside = lane * 2 * road.half_m / road.lanes - road.half_m
            for start in np.arange(-reach, reach, 4.5):
                if not any(low < start + 1 < high for low, high in gaps):
                    _line(road, frame, canvas, (start, start + 2.2), (beside - 0.08, beside + 0.08))
        zebras = [low - 3.2 for low, _ in gaps] if gaps else [rng.uniform(-reach, reach)] * (rng.random() < 0.4)
        for along in zebras:
            for beside in np.arange(-road.half_m + 0.4, road.half_m - 0.5, 1.1):
                _line(road, frame, canvas, (along, along + 2.6), (beside, beside + 0.55))


def _junctions(road: Road, roads: Sequence[Road]) -> list[tuple[float, float]]:
    others = [other for other in roads if other.across != road.across]
    return [(o.middle - o.edge_m(-1) - 0.3, o.middle + o.edge_m(1) + 0.3) for o in others]


def _without(gaps: Sequence[tuple[float, float]], low: float, high: float) -> list[tuple[float, float]]:
    edges = [low, *(edge for gap in gaps for edge in gap), high]
    return list(zip(edges[0::2], edges[1::2], strict=True))


def _mottle(rng: np.random.Generator, canvas: Canvas, *, strength: float) -> None:
    """Add patches of lighter and darker ground, coarse and fine."""
    side = canvas.shape[0]
    patches = np.zeros((side, side), dtype=np.float32)
    for cells, share in ((9, 1.0), (40, 0.6), (160, 0.5)):
        coarse = rng.standard_normal((cells, cells), dtype=np.float32) * np.float32(strength * share)
        patches += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    np.copyto(canvas, np.clip(canvas + patches[:, :, None], 0, 255).astype(np.uint8))

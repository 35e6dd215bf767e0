"""Draw the things of a rendered scene that get labels: cars, vans, trucks and people, each with its shadow."""

from __future__ import annotations

import math

import cv2
import numpy as np

from slimdeploy.data.scene_frame import Canvas, Colour, Frame, Mask, Points, Thing, choose, disc, lighter, rectangle

CLASSES = ("pedestrian", "car", "van", "truck")

GLASS: Colour = (52, 42, 36)
SKINS: tuple[Colour, ...] = ((40, 34, 30), (60, 80, 120), (130, 165, 205))
CLOTHES: tuple[Colour, ...] = (
    (40, 40, 200), (200, 90, 40), (60, 180, 220), (235, 235, 235), (60, 50, 45), (70, 150, 60), (170, 70, 160),
)  # fmt: skip
CAR_PAINTS: tuple[Colour, ...] = (
    (235, 235, 235), (190, 190, 188), (45, 42, 40), (95, 95, 92), (40, 36, 170), (150, 80, 35), (60, 105, 50),
    (105, 150, 185),
)  # fmt: skip
VAN_PAINTS: tuple[Colour, ...] = ((240, 240, 240), (205, 210, 210), (60, 195, 235), (125, 85, 50), (150, 150, 150))
CAB_PAINTS: tuple[Colour, ...] = ((45, 40, 190), (170, 85, 30), (235, 235, 235), (40, 120, 225), (70, 130, 50))
LOADS: tuple[Colour, ...] = ((225, 228, 230), (185, 190, 195), (165, 110, 55), (75, 125, 85), (95, 130, 170))

# Length, width and height in metres: the means, and how far a single one strays, as a share.
SIZES_M = {"pedestrian": (1.25, 0.56, 1.7), "car": (4.1, 1.8, 1.4), "van": (5.0, 2.05, 2.4), "truck": (6.0, 2.5, 3.3)}
STRAY = 0.07


def new_thing(rng: np.random.Generator, kind: str, at: tuple[float, float], heading: float) -> Thing:
    """Return one thing of a class, its size and paint chosen by chance."""
    paints = {
        "pedestrian": (CLOTHES, CLOTHES, SKINS),
        "car": (CAR_PAINTS,),
        "van": (VAN_PAINTS,),
        "truck": (CAB_PAINTS, LOADS),
    }[kind]
    length, width, height = (size * (1 + rng.uniform(-STRAY, STRAY)) for size in SIZES_M[kind])
    colours = tuple(_worn(rng, choose(rng, options)) for options in paints)
    return Thing(kind=kind, at=at, heading=heading, length=length, width=width, height=height, colours=colours)


def _worn(rng: np.random.Generator, colour: Colour) -> Colour:
    return lighter(colour, float(rng.uniform(-0.18, 0.12)))


def silhouette(thing: Thing, frame: Frame) -> Points:
    """Return what the thing covers, without its shadow, as a convex polygon in metres; shape (n, 2)."""
    if thing.kind == "pedestrian":
        parts = [disc(x, y, radius) for x, y, radius, _ in _figure(thing, frame)]
        hull = cv2.convexHull(np.concatenate(parts).astype(np.float32))
        return np.asarray(hull[:, 0, :], dtype=np.float64)
    return thing.place(_body(0.12 if thing.kind == "car" else 0.04))


def shadow(thing: Thing, frame: Frame) -> Points:
    """Return the ground that the thing darkens, as a convex polygon in metres; shape (n, 2)."""
    foot = thing.place(_body(0.1)) if thing.kind != "pedestrian" else disc(*thing.at, 0.2)
    cast = foot + np.array(frame.sun) * thing.height
    hull = cv2.convexHull(np.concatenate([foot, cast]).astype(np.float32))
    return np.asarray(hull[:, 0, :], dtype=np.float64)


def draw(thing: Thing, frame: Frame, canvas: Canvas) -> None:
    """Paint the thing, without its shadow."""
    {"pedestrian": _draw_person, "car": _draw_car, "van": _draw_van, "truck": _draw_truck}[thing.kind](
        thing, frame, canvas
    )


def mark(points: Points, frame: Frame, mask: Mask, value: int) -> None:
    """Fill a polygon given in metres with one value of a mask."""
    cv2.fillPoly(mask, [frame.pixels(points)], value)


def fill(points: Points, frame: Frame, canvas: Canvas, colour: Colour) -> None:
    """Fill a polygon given in metres with a colour."""
    cv2.fillPoly(canvas, [frame.pixels(points)], colour)


def _body(cut: float) -> Points:
    """A box with its corners cut off, as shares of half length and half width."""
    wide = cut * 2
    return np.array(
        [[1 - cut, -1], [1, -1 + wide], [1, 1 - wide], [1 - cut, 1], [cut - 1, 1], [-1, 1 - wide], [-1, wide - 1],
         [cut - 1, -1]]
    )  # fmt: skip


def _part(thing: Thing, frame: Frame, canvas: Canvas, points: Points, colour: Colour) -> None:
    fill(thing.place(points), frame, canvas, colour)


def _draw_car(thing: Thing, frame: Frame, canvas: Canvas) -> None:
    paint = thing.colours[0]
    _part(thing, frame, canvas, _body(0.12), lighter(paint, -0.25))
    _part(thing, frame, canvas, _body(0.12) * np.array([0.97, 0.86]), paint)
    _part(thing, frame, canvas, np.array([[0.42, -0.82], [0.42, 0.82], [0.12, 0.68], [0.12, -0.68]]), GLASS)
    _part(thing, frame, canvas, np.array([[-0.72, -0.74], [-0.72, 0.74], [-0.5, 0.66], [-0.5, -0.66]]), GLASS)
    _part(thing, frame, canvas, rectangle(-0.48, -0.84, 0.1, 0.84), GLASS)
    _part(thing, frame, canvas, rectangle(-0.5, -0.64, 0.13, 0.64), lighter(paint, 0.14))
    for side in (-0.7, 0.7):
        _part(thing, frame, canvas, rectangle(0.9, side - 0.16, 0.98, side + 0.16), (215, 230, 235))
        _part(thing, frame, canvas, rectangle(-0.98, side - 0.16, -0.92, side + 0.16), (40, 40, 170))


def _draw_van(thing: Thing, frame: Frame, canvas: Canvas) -> None:
    paint = thing.colours[0]
    _part(thing, frame, canvas, _body(0.05), lighter(paint, -0.22))
    _part(thing, frame, canvas, _body(0.05) * np.array([0.98, 0.9]), paint)
    _part(thing, frame, canvas, np.array([[0.84, -0.8], [0.84, 0.8], [0.64, 0.74], [0.64, -0.74]]), GLASS)
    for rib in np.linspace(-0.85, 0.5, 6):
        _part(thing, frame, canvas, rectangle(rib, -0.74, rib + 0.06, 0.74), lighter(paint, -0.12))
    for side in (-0.72, 0.72):
        _part(thing, frame, canvas, rectangle(0.93, side - 0.15, 0.99, side + 0.15), (215, 230, 235))


def _draw_truck(thing: Thing, frame: Frame, canvas: Canvas) -> None:
    cab, load = thing.colours
    _part(thing, frame, canvas, rectangle(-1, -0.8, 1, 0.8), (45, 45, 45))
    _part(thing, frame, canvas, rectangle(0.54, -0.92, 1, 0.92), cab)
    _part(thing, frame, canvas, rectangle(0.84, -0.84, 0.94, 0.84), GLASS)
    _part(thing, frame, canvas, rectangle(0.56, -0.7, 0.8, 0.7), lighter(cab, 0.18))
    _part(thing, frame, canvas, rectangle(-1, -1, 0.46, 1), lighter(load, -0.3))
    _part(thing, frame, canvas, rectangle(-0.96, -0.88, 0.42, 0.88), load)
    _part(thing, frame, canvas, rectangle(-0.96, -0.05, 0.42, 0.05), lighter(load, -0.15))


def _figure(thing: Thing, frame: Frame) -> list[tuple[float, float, float, Colour]]:
    """The discs (x, y, radius, colour) of a standing figure, feet first, seen aslant along `frame.lean`."""
    length = math.hypot(*frame.lean)
    up = np.array(frame.lean) / length
    side = np.array([math.cos(thing.heading), math.sin(thing.heading)]) * 0.09
    shirt, trousers, head = thing.colours[0], thing.colours[1], thing.colours[2]
    parts = []
    for share, radius, colour, step in (
        (0.12, 0.15, lighter(trousers, -0.35), side),
        (0.22, 0.15, lighter(trousers, -0.35), -side),
        (0.5, thing.width / 2, shirt, side * 0),
        (0.62, thing.width / 2, shirt, side * 0),
        (0.84, 0.19, head, side * 0),
    ):
        x, y = np.array(thing.at) + up * (share - 0.12) * thing.length + step
        parts.append((float(x), float(y), radius, colour))
    return parts


def _draw_person(thing: Thing, frame: Frame, canvas: Canvas) -> None:
    for x, y, radius, colour in _figure(thing, frame):
        fill(disc(x, y, radius), frame, canvas, colour)

"""What the parts of a rendered scene share: colours, the map from metres to pixels, and the things in a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (n, 2)
Canvas = npt.NDArray[np.uint8]  # (H, W, 3), BGR
Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # (H, W)
Colour = tuple[int, int, int]  # BGR, 0..255

_DISC = np.array([[math.cos(turn * math.pi / 6), math.sin(turn * math.pi / 6)] for turn in range(12)])

SUPERSAMPLING = 2  # canvas pixels in an image pixel, along each side: the edges become soft when it is scaled down


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Maps a scene's metres to canvas pixels; the scene's origin lies in the middle of the picture.

    Attributes:
        side_px: side of the square canvas, in canvas pixels.
        px_per_m: canvas pixels in a metre: how low the drone flies.
        heading: direction of the main road, in radians.
        sun: where shadows fall, in metres for each metre of height, in scene coordinates.
        lean: where the top of a standing thing appears, in metres for each metre of height, in scene coordinates.
        shade: how dark shadows are, in 0..1.
    """

    side_px: int
    px_per_m: float
    heading: float
    sun: tuple[float, float]
    lean: tuple[float, float]
    shade: float

    @property
    def reach_m(self) -> float:
        """Metres from the middle of the picture to its corners."""
        return self.side_px / self.px_per_m / math.sqrt(2)

    def pixels(self, metres: Points) -> npt.NDArray[np.int32]:
        """Return scene coordinates as canvas pixels; both of shape (n, 2)."""
        turned = metres @ rotation(self.heading).T
        return np.rint(turned * self.px_per_m + self.side_px / 2).astype(np.int32)

    def shows(self, at: tuple[float, float], margin_m: float) -> bool:
        """Return whether a point given in metres lies in the picture, or within a margin around it."""
        low, high = -margin_m * self.px_per_m, self.side_px + margin_m * self.px_per_m
        x, y = self.pixels(np.array([at]))[0]
        return bool(low < x < high and low < y < high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Something that gets a label.

    Attributes:
        kind: class name.
        at: centre, in metres in scene coordinates.
        heading: where its front points, in radians in scene coordinates.
        length: front to back, in metres; for a person, how tall the figure appears.
        width: side to side, in metres.
        height: in metres; what the shadow is as long as.
        colours: paint of its parts, main part first.
    """

    kind: str
    at: tuple[float, float]
    heading: float
    length: float
    width: float
    height: float
    colours: tuple[Colour, ...]

    def place(self, local: Points) -> Points:
        """Return points given as shares of half length and half width, (n, 2), in scene coordinates."""
        sized = local * np.array([self.length / 2, self.width / 2])
        moved: Points = sized @ rotation(self.heading).T + np.array(self.at)
        return moved


def rotation(angle: float) -> Points:
    """Return the matrix that turns column vectors by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    """Return the corners of an upright rectangle, shape (4, 2)."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def disc(x: float, y: float, radius: float) -> Points:
    """Return the corners of a polygon that looks like a disc, shape (12, 2)."""
    return _DISC * radius + (x, y)


def lighter(colour: Colour, by: float) -> Colour:
    """Return a colour moved towards white (`by` > 0) or black (`by` < 0); `by` in -1..1."""
    goal = 255 if by > 0 else 0
    b, g, r = (round(c + (goal - c) * abs(by)) for c in colour)
    return b, g, r


def choose(rng: np.random.Generator, options: Any) -> Any:
    """Return one of a sequence's items."""
    return options[int(rng.integers(len(options)))]

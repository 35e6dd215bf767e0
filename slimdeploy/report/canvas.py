"""Draw with matplotlib and hand out SVG that takes its colours and its font from the page around it.

Plots are drawn once, in the light page's colours. In the SVG each of those colours becomes a CSS variable, which the
page sets for light and for dark; the PNG keeps the colours, on white.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from slimdeploy._needs import needs

INK, MUTED, GRID = "#1c2128", "#5b6571", "#d5dae0"
SERIES = ("#0b64b4", "#c2410c", "#0f7b5f", "#a3317f", "#8a6100", "#5b4fc4", "#0e7490", "#6b7280")
MARKERS = "osD^vPX*"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", **{one: f"--s{i}" for i, one in enumerate(SERIES)}}
PNG_DPI = 150
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib brings it: the same layout on every machine
    "font.size": 9.5,
    "text.parse_math": False,  # names may hold a dollar sign
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "slimdeploy",
}

Painter = Callable[[Any], None]  # draws on a matplotlib Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One drawing of a report.

    Attributes:
        name: unique in a report; letters, digits and hyphens.
        title: heading above it.
        caption: how to read it, in a sentence or two.
        svg: the drawing.
        wide: whether it needs the page's full width.
    """

    name: str
    title: str
    caption: str
    svg: str
    wide: bool = False


def plot(
    name: str, title: str, caption: str, paint: Painter, *, size: tuple[float, float] = (5.2, 3.4), wide: bool = False
) -> Plot:
    """Return a finished plot.

    Args:
        name: unique in a report; letters, digits and hyphens.
        title: heading above it.
        caption: how to read it.
        paint: draws on a matplotlib Figure.
        size: width and height, in inches.
        wide: whether it needs the page's full width.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    stream = io.BytesIO()
    with _figure(paint, size) as figure:
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Plot(name=name, title=title, caption=caption, svg=_for_page(stream.getvalue(), name, title), wide=wide)


def png(paint: Painter, *, size: tuple[float, float]) -> bytes:
    """Return a drawing as a PNG on white; `size` is width and height, in inches."""
    stream = io.BytesIO()
    with _figure(paint, size) as figure:
        figure.savefig(stream, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


@contextmanager
def _figure(paint: Painter, size: tuple[float, float]) -> Iterator[Any]:
    with needs("report"):
        import matplotlib as mpl
        from matplotlib.figure import Figure
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has its own fonts
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        yield figure


def _for_page(svg: bytes, name: str, title: str) -> str:
    """Return an SVG to stand inside HTML: no namespaces, ids of its own, the page's colours and font."""
    root = ElementTree.fromstring(svg)
    for child in [one for one in root if one.tag.endswith("metadata")]:
        root.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _themed(key, value, name) for key, value in element.attrib.items()}
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _themed(key: str, value: str, name: str) -> str:
    plain = key.rpartition("}")[2]
    if plain == "id":
        return f"{name}-{value}"
    if plain == "href" and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = value.replace("url(#", f"url(#{name}-")
    if plain == "style":
        value = re.sub(r"(font: [^;]*?px) [^;]*", r"\1 var(--font)", value)
        value = re.sub("#[0-9a-f]{6}", lambda found: _variable(found.group()), value)
    return value


def _variable(colour: str) -> str:
    return f"var({VARIABLES[colour]})" if colour in VARIABLES else colour

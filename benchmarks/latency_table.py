"""Put the newest committed results of accuracy_at_latency into README.md, and draw them into docs/at_latency.png.

python benchmarks/latency_table.py            # rewrites README.md and docs/at_latency.png
python benchmarks/latency_table.py --check    # exits 1 where README.md says something else
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from _results import asked_to_check, latest, put_into_readme

PICTURE = Path(__file__).parent.parent / "docs" / "at_latency.png"
HEADER = (
    "asked", "way", "measured", "p50", "parameters", "GMACs", "file", "mAP50", "mAP50-95", "against dense",
    "against planner",
)  # fmt: skip
SIZE = (7.2, 4.2)

Rows = Sequence[Mapping[str, Any]]


def render(document: Mapping[str, Any]) -> str:
    """Return one result as a Markdown table: a line for every way at every speed-up, over all seeds."""
    lines = [list(HEADER), ["---:", "---", *["---:"] * (len(HEADER) - 2)]]
    dense = [row for row in document["rows"] if row["name"] == "dense"]
    lines.append(_cells(dense, asked=""))
    for speedup in sorted({row["asked_speedup"] for row in document["rows"]}):
        rows = [row for row in document["rows"] if row["asked_speedup"] == speedup and row["name"] != "dense"]
        lines += [
            _cells([row for row in rows if row["name"] == name], asked=f"{speedup:g}")
            for name in dict.fromkeys(row["name"] for row in rows)
        ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(rows: Rows, *, asked: str) -> list[str]:
    return [
        asked,
        rows[0]["name"],
        f"{mean(row['measured_speedup'] for row in rows):.2f}" if asked else "1",
        f"{mean(row['p50_ms'] for row in rows):.2f} ms",
        f"{mean(row['parameters'] for row in rows):,.0f}",
        f"{mean(row['macs'] for row in rows) / 1e9:.3f}",
        f"{mean(row['size_bytes'] for row in rows) / 1e6:.2f} MB",
        f"{mean(row['accuracy']['map50'] for row in rows):.3f}",
        f"{mean(row['accuracy']['map50_95'] for row in rows):.3f}",
        _differences(rows, "dense"),
        _differences(rows, "planner"),
    ]


def _differences(rows: Rows, other: str) -> str:
    """Return the difference to another row with its interval, seed by seed."""
    found = {row["seed"]: row["against"][other] for row in rows if other in row["against"]}
    return "; ".join(_interval(found[seed]) for seed in sorted(found)) if rows[0]["name"] != "dense" else ""


def _interval(one: Mapping[str, float]) -> str:
    told = f"{one['points']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}]"
    return f"no difference shown ({told})" if one["low"] <= 0 <= one["high"] else told


def draw(document: Mapping[str, Any]) -> bytes:
    """Return the picture: mAP50-95 against latency, a line for every way, a point for every speed-up and seed."""
    from slimdeploy.report.canvas import MARKERS, SERIES, png

    names = list(dict.fromkeys(row["name"] for row in document["rows"]))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for name, colour, marker in zip(names, SERIES, MARKERS, strict=False):
            rows = sorted((row for row in document["rows"] if row["name"] == name), key=lambda row: row["p50_ms"])
            style = "none" if name == "dense" else "-" if name == "planner" else ":"
            axes.plot(
                [row["p50_ms"] for row in rows],
                [row["accuracy"]["map50_95"] for row in rows],
                color=colour, marker=marker, linestyle=style, label=name, markersize=5, linewidth=1.2,
            )  # fmt: skip
        axes.set_xlabel("p50 of the bare session on ONNX Runtime, ms")
        axes.set_ylabel("mAP50-95")
        axes.legend(loc="lower right", fontsize=8)

    return png(paint, size=SIZE)


def main() -> int:
    """Rewrite README.md and the picture, or say whether README.md is true."""
    check = asked_to_check(__doc__)
    document = json.loads(latest("accuracy_at_latency-aerial_cars").read_text(encoding="utf-8"))
    if not check:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(draw(document))
    return put_into_readme({"at latency": render(document)}, check=check)


if __name__ == "__main__":
    sys.exit(main())

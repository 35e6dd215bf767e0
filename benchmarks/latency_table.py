"""Put the newest committed results of accuracy_at_latency into README.md, and draw them into docs/at_latency.png.

python benchmarks/latency_table.py            # rewrites README.md and docs/at_latency.png
python benchmarks/latency_table.py --check    # exits 1 where README.md says something else
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from _results import asked_to_check, latest, put_into_readme

PICTURE = Path(__file__).parent.parent / "docs" / "at_latency.png"
HEADER = (
    "asked", "way", "measured", "p50", "parameters", "GMACs", "file", "untuned", "mAP50", "mAP50-95", "against dense",
    "against planner",
)  # fmt: skip
LEAD = (
    "model", "parameters", "ONNX file", "GMACs", "p50", "times as fast", "mAP50-95 after the cut", "and tuning",
    "against dense",
)  # fmt: skip
BESIDE = 2.0
DRAWN = ("dense", "planner", "slimming", "group-norm", "narrow", "small-input", "planner-distilled", "planner-shape")
UNTUNED = "before_tuning_map50_95"
SIZE = (7.2, 4.2)

Rows = Sequence[Mapping[str, Any]]


def render(document: Mapping[str, Any]) -> str:
    """Return one result as a Markdown table: a line for every way at every speed-up, over all seeds."""
    lines = [list(HEADER), ["---:", "---", *["---:"] * (len(HEADER) - 2)]]
    dense = _dense(document["rows"])
    lines.append(_cells(dense, asked=""))
    for speedup in sorted({row["asked_speedup"] for row in document["rows"]}):
        rows = [row for row in document["rows"] if row["asked_speedup"] == speedup and row["name"] != "dense"]
        lines += [
            _cells([row for row in rows if row["name"] == name], asked=f"{speedup:g}")
            for name in dict.fromkeys(row["name"] for row in rows)
        ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def lead(document: Mapping[str, Any]) -> str:
    """Return dense and the planner's networks alone, below a sentence on the one that is twice as fast."""
    rows = document["rows"]
    dense = _dense(rows)
    planned = {
        speedup: [row for row in rows if row["name"] == "planner" and row["asked_speedup"] == speedup]
        for speedup in sorted({row["asked_speedup"] for row in rows})
    }
    lines = [list(LEAD), ["---", *["---:"] * (len(LEAD) - 1)], _lead_cells(dense, "dense")]
    lines += [_lead_cells(found, f"asked for {speedup:g} times") for speedup, found in planned.items()]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"**{_sentence(dense, planned[BESIDE])}**\n\n{table}"


def _dense(rows: Rows) -> Rows:
    """Return the dense network's rows, one for each seed: those that were timed beside the networks twice as fast."""
    return [row for row in rows if row["name"] == "dense" and row["asked_speedup"] == BESIDE]


def _sentence(dense: Rows, planned: Rows) -> str:
    fewer = 1 - _mean(planned, "parameters") / _mean(dense, "parameters")
    return (
        f"{_mean(planned, 'measured_speedup'):.2f} times as fast on ONNX Runtime CPU, {100 * fewer:.0f} % fewer "
        f"parameters, mAP50-95 {_map(planned):.3f} against {_map(dense):.3f}, and {_mean(planned, UNTUNED):.3f} "
        "right after the cut, without any training."
    )


def _lead_cells(rows: Rows, name: str) -> list[str]:
    is_dense = name == "dense"
    return [
        name + (f" ({len(rows)} seeds)" if len(rows) > 1 else ""),
        f"{_mean(rows, 'parameters'):,.0f}",
        f"{_mean(rows, 'size_bytes') / 1e6:.2f} MB",
        f"{_mean(rows, 'macs') / 1e9:.3f}",
        f"{_mean(rows, 'p50_ms'):.2f} ms",
        "1" if is_dense else f"{_mean(rows, 'measured_speedup'):.2f}",
        "" if is_dense else f"{_mean(rows, UNTUNED):.3f}",
        f"{_map(rows):.3f}",
        _differences(rows, "dense"),
    ]


def _mean(rows: Rows, key: str) -> float:
    return mean(row[key] for row in rows)


def _map(rows: Rows) -> float:
    return mean(row["accuracy"]["map50_95"] for row in rows)


def _cells(rows: Rows, *, asked: str) -> list[str]:
    return [
        asked,
        rows[0]["name"] + (f" ({len(rows)} seeds)" if len(rows) > 1 else ""),
        f"{_mean(rows, 'measured_speedup'):.2f}" if asked else "1",
        f"{_mean(rows, 'p50_ms'):.2f} ms",
        f"{_mean(rows, 'parameters'):,.0f}",
        f"{_mean(rows, 'macs') / 1e9:.3f}",
        f"{_mean(rows, 'size_bytes') / 1e6:.2f} MB",
        "" if rows[0][UNTUNED] is None else f"{_mean(rows, UNTUNED):.3f}",
        f"{mean(row['accuracy']['map50'] for row in rows):.3f}",
        f"{_map(rows):.3f}",
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
    """Return the picture: mAP50-95 against latency, a line for every way, a point for every speed-up."""
    from slimdeploy.report.canvas import MARKERS, SERIES, png

    rows = [row for row in document["rows"] if row["name"] in DRAWN]
    names = list(dict.fromkeys(row["name"] for row in rows))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for name, colour, marker in zip(names, SERIES, MARKERS, strict=False):
            points = _points([row for row in rows if row["name"] == name])
            style = "none" if name == "dense" else "-" if name == "planner" else ":"
            axes.plot(
                *zip(*points, strict=True), color=colour, marker=marker, linestyle=style, label=name, markersize=5,
                linewidth=1.2,
            )  # fmt: skip
        axes.set_xlabel("p50 of the bare session on ONNX Runtime, ms")
        axes.set_ylabel("mAP50-95")
        axes.legend(loc="lower right", fontsize=8)

    return png(paint, size=SIZE)


def _points(rows: Rows) -> list[tuple[float, float]]:
    """Return latency and mAP50-95 of a way at every speed-up, the quickest first; of dense there is one."""
    by_speedup = defaultdict(list)
    for row in _dense(rows) or rows:
        by_speedup[row["asked_speedup"]].append(row)
    return sorted((_mean(found, "p50_ms"), _map(found)) for found in by_speedup.values())


def main() -> int:
    """Rewrite README.md and the picture, or say whether README.md is true."""
    check = asked_to_check(__doc__)
    document, other = (
        json.loads(latest(f"accuracy_at_latency-{name}").read_text(encoding="utf-8"))
        for name in ("aerial_cars", "bccd")
    )
    if not check:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(draw(document))
    tables = {"lead": lead(document), "at latency": render(document), "at latency bccd": render(other)}
    return put_into_readme(tables, check=check)


if __name__ == "__main__":
    sys.exit(main())

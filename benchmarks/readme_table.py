"""Put the newest committed results of aerial_cars and networks into README.md, each between its two markers.

No row is hand-written.

python benchmarks/readme_table.py            # rewrites README.md
python benchmarks/readme_table.py --check    # exits 1 where README.md says something else
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from _results import asked_to_check, latest, put_into_readme

NETWORKS = ("network", "task", "scales", "parameters", "GMACs", "ONNX against PyTorch", "ultralytics alone")
HEADER = ("model", "parameters", "ONNX file", "GMACs", "mAP50", "mAP50-95", "p50", "against dense")


def render(document: Mapping[str, Any]) -> str:
    """Return the table of one result as Markdown, with the report's headline and warnings.

    Args:
        document: the report's JSON.
    """
    lines = _table(HEADER, [_cells(row) for row in document["table"]], ["---", *["---:"] * (len(HEADER) - 1)])
    warned = [f"Warned while measuring: {one['text']}." for one in document["warnings"]]
    return "\n".join([f"**{document['headline']}**", "", *lines, *(line for one in warned for line in ("", one))])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], rule: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [header, rule, *rows]]


def render_networks(document: Mapping[str, Any]) -> str:
    """Return a row for each kind of network, with the figures of its smallest and its largest scale.

    Args:
        document: the result of networks.py.
    """
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in document["rows"]:
        family, scale, head = re.fullmatch(r"(yolo(?:v8|11|26))([nsmlx])(.*)", row["network"]).groups()
        kinds.setdefault((family + head, row["task"]), []).append({**row, "scale": scale})
    rows = [_kind(name, task, scales) for (name, task), scales in kinds.items()]
    return "\n".join(_table(NETWORKS, rows, ["---", "---", "---", "---:", "---:", "---", "---"]))


def _kind(name: str, task: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ends = [rows[0], rows[-1]] if len(rows) > 1 else rows
    wrong = [f"{row['scale']}: {fault}" for row in rows for fault in row["wrong"]]
    shift, change = (max(row["check"][key] for row in rows) for key in ("box_shift_px", "score_change"))
    agrees = f"{change:.0e}" if task == "classify" else f"{shift:.0e} px, {change:.0e}"
    return [
        name,
        task,
        ", ".join(row["scale"] for row in rows),
        "; ".join(f"{row['parameters'][0] / 1e6:.2f} to {row['parameters'][1] / 1e6:.2f} M" for row in ends),
        "; ".join(f"{row['macs'][0] / 1e9:.2f} to {row['macs'][1] / 1e9:.2f}" for row in ends),
        agrees,
        "; ".join(wrong) or "predicts with both files, refuses to train",
    ]


def _cells(row: Mapping[str, Any]) -> list[str]:
    speedup = row["speedup"]
    return [
        str(row["name"]),
        f"{row['parameters']:,}",
        f"{row['size_mb']:.2f} MB",
        f"{row['gmacs']:.3f}",
        f"{row['map50']:.3f}",
        f"{row['map50_95']:.3f}",
        f"{row['p50_ms']:.2f} ms",
        _ratio(speedup) if speedup else "1",
    ]


def _ratio(speedup: Mapping[str, Any]) -> str:
    text = f"{speedup['ratio']:.2f} times [{speedup['low']:.2f}, {speedup['high']:.2f}]"
    return text if speedup["shown"] else f"no difference shown ({text})"


def main() -> int:
    """Rewrite README.md, or say whether it is true."""
    tables = {
        name: shown(json.loads(latest(name).read_text(encoding="utf-8")))
        for name, shown in (("aerial_cars", render), ("networks", render_networks))
    }
    return put_into_readme(tables, check=asked_to_check(__doc__))


if __name__ == "__main__":
    sys.exit(main())

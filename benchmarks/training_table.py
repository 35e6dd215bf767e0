"""Put the newest committed result of sparsity_and_finetuning into README.md, and draw its scales into docs/.

python benchmarks/training_table.py            # rewrites README.md and docs/scales.png
python benchmarks/training_table.py --check    # exits 1 where README.md says something else
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _results import asked_to_check, latest, put_into_readme

PICTURE = Path(__file__).parent.parent / "docs" / "scales.png"
HEADER = ("model", "epochs", "training", "live channels", "mAP50", "mAP50-95", "points against dense")
DRAWN = "sparse, proximal"


def render(document: Mapping[str, Any]) -> str:
    """Return one result as Markdown: the table, and what the teacher gained."""
    rows = [list(HEADER), ["---", *["---:"] * (len(HEADER) - 1)], *(_cells(row) for row in document["rows"])]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*lines, "", *_sentences(document["rows"])])


def _cells(row: Mapping[str, Any]) -> list[str]:
    against = row["against"].get("dense")
    return [
        row["name"],
        str(row["epochs"] or ""),
        f"{row['training_s'] / 60:.0f} min" if row["training_s"] else "",
        f"{row['live_channels']:,} of {row['channels']:,}",
        f"{row['map50']:.3f}",
        f"{row['map50_95']:.3f}",
        _interval(against) if against else "",
    ]


def _interval(one: Mapping[str, float]) -> str:
    return f"{one['points']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}]"


def _sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found = {row["name"]: row for row in rows}
    lines = []
    for name, what in (("tuned with teacher", "The teacher"), ("scratch", "New weights")):
        gain = found[name]["against"]["tuned"]
        shown = gain["low"] > 0 or gain["high"] < 0
        verdict = "" if shown else ": no difference shown"
        lines.append(f"{what} against plain fine-tuning: {_interval(gain)} points of mAP50-95{verdict}.")
    return [" ".join([*lines, _penalties(rows)])]


def _penalties(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how many scales each form of the penalty brought down."""
    told = []
    for row in rows:
        if row["name"].startswith("sparse"):
            dead = row["channels"] - row["live_channels"]
            small = row["history"][-1]["scales"]["below_0.1"]
            told.append(
                f"{row['name'].removeprefix('sparse, ')} left {dead} scales below 0.01 and {small:.1%} below 0.1"
            )
    return f"Of the two penalties, {', '.join(told)}."


def draw(document: Mapping[str, Any]) -> bytes:
    """Return the picture of the scales over the epochs of the first proximal training."""
    from slimdeploy.report.training_plots import Training, scales_png
    from slimdeploy.yolo.gammas import HISTOGRAM_EDGES

    row = next(row for row in document["rows"] if row["name"].startswith(DRAWN))
    return scales_png(Training(run="", stage="sparsify", epochs=tuple(row["history"]), scale_edges=HISTOGRAM_EDGES))


def main() -> int:
    """Rewrite README.md and the picture, or say whether README.md is true."""
    check = asked_to_check(__doc__)
    document = json.loads(latest("sparsity_and_finetuning").read_text(encoding="utf-8"))
    if not check:
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(draw(document))
    return put_into_readme({"training": render(document)}, check=check)


if __name__ == "__main__":
    sys.exit(main())

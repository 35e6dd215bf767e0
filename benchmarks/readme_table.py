"""Put the newest committed result of aerial_cars into README.md, between its two markers; no row is hand-written.

python benchmarks/readme_table.py            # rewrites README.md
python benchmarks/readme_table.py --check    # exits 1 where README.md says something else
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _results import latest

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- aerial_cars: begin -->", "<!-- aerial_cars: end -->"
HEADER = ("model", "parameters", "ONNX file", "GMACs", "mAP50", "mAP50-95", "p50", "against dense")


def render(document: Mapping[str, Any]) -> str:
    """Return the table of one result as Markdown, with the report's headline and warnings.

    Args:
        document: the report's JSON.
    """
    rows = [_cells(row) for row in document["table"]]
    rule = ["---", *["---:"] * (len(HEADER) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in [list(HEADER), rule, *rows]]
    warned = [f"Warned while measuring: {one['text']}." for one in document["warnings"]]
    return "\n".join([f"**{document['headline']}**", "", *lines, *(line for one in warned for line in ("", one))])


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the table is another")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    table = render(json.loads(latest("aerial_cars").read_text(encoding="utf-8")))
    wanted = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if options.check:
        return int(text != wanted)
    README.write_text(wanted, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

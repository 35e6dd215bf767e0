"""What pruning by half does to a detector on real photographs: examples/aerial_cars.toml, from new weights to report.

    SLIMDEPLOY_DATA=... python benchmarks/aerial_cars.py --out runs/aerial

About two hours on 2 cores; run again, it goes on at the first stage that is not whole. The report's JSON, raw
samples included, goes to benchmarks/results/, named by machine and date; `benchmarks/readme_table.py` puts its
table into README.md.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from pathlib import Path

from _results import result_path

from slimdeploy.pipeline import REPORT, run_recipe
from slimdeploy.recipes import read_recipe
from slimdeploy.report.terminal import as_text

NAME = "aerial_cars"
RECIPE = Path(__file__).parent.parent / "examples" / "aerial_cars.toml"


def main() -> None:
    """Run the recipe and keep its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / NAME, help="the recipe's folder")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    print(as_text(run_recipe(read_recipe(RECIPE), options.out)))
    path = result_path(NAME)
    shutil.copyfile(options.out / REPORT / "report.json", path)
    print(path)


if __name__ == "__main__":
    main()

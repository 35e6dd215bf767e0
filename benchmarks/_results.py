"""Where results go: benchmarks/results/, named by benchmark, machine and date."""

from __future__ import annotations

import argparse
import platform
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from slimdeploy.bench.environment import environment

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def result_path(name: str) -> Path:
    """Return the path for a benchmark's result of today on this machine."""
    known = environment()
    machine = f"{known.get('cpu_model', platform.machine())}-{known['cores_usable']}cores"
    slug = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}-{slug}-{datetime.now(timezone.utc):%Y-%m-%d}.json"


def latest(name: str) -> Path:
    """Return a benchmark's newest committed result.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(RESULTS.glob(f"{name}-*.json"), key=lambda path: path.stem[-10:])
    if not found:
        raise FileNotFoundError(f"benchmarks/results holds no result of {name}")
    return found[-1]


def asked_to_check(doc: str) -> bool:
    """Return whether a script that writes tables was asked, with --check, to change nothing."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the table is another")
    return bool(parser.parse_args().check)


def put_into_readme(tables: Mapping[str, str], *, check: bool) -> int:
    """Put tables into README.md, each between the markers of its name; or return 1 where one is another there.

    Args:
        tables: Markdown by the name in the markers.
        check: change nothing.
    """
    text = wanted = README.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = wanted.split(begin)
        _, after = rest.split(end)
        wanted = f"{before}{begin}\n{table}\n{end}{after}"
    if check:
        return int(text != wanted)
    README.write_text(wanted, encoding="utf-8", newline="\n")
    return 0

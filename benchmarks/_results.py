"""Where results go: benchmarks/results/, named by benchmark, machine and date."""

from __future__ import annotations

import platform
import re
from datetime import datetime, timezone
from pathlib import Path

from slimdeploy.bench.environment import environment

RESULTS = Path(__file__).parent / "results"


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

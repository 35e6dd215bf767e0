"""Say which graph of a bundle to run, by measuring both on the target; never by the name of a precision."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from slimdeploy._needs import is_installed
from slimdeploy.bench.measure import measure
from slimdeploy.bench.stats import ratio, summary
from slimdeploy.configs import BenchConfig
from slimdeploy.records import Artifact, Target

log = logging.getLogger("slimdeploy.export")

ON_THE_BOARD = "not measured yet: bench on the board"
_CONFIG = BenchConfig(samples=60, rounds=6, warmup_limit_s=3.0)  # seconds, and still an interval


def recommend(graphs: Sequence[tuple[str, Artifact]], target: Target) -> dict[str, Any]:
    """Return what a manifest says of which graph to run.

    The int8 graph is recommended where the measurement shows it to be quicker than the float one, else the float one.

    Args:
        graphs: names and files of an int8 graph and a float one, in this order.
        target: what they are for; a target that is a CPU is this machine.
    """
    if target.kind != "cpu":
        return {"measured": False, "why": ON_THE_BOARD}
    if not is_installed(target.runtime):
        return {"measured": False, "why": f"not measured: {target.runtime} is not installed here"}
    log.info("export: measuring %s on %s", " and ".join(name for name, _ in graphs), target.runtime)
    int8, exact = measure(graphs, _CONFIG, backend=target.runtime)
    found = ratio(exact, int8)
    quicker = found.shown and found.value < 1
    said = f"{found.value:.2f} times the time of {exact.artifact} [{found.low:.2f}, {found.high:.2f}]"
    return {
        "measured": True,
        "file": (int8 if quicker else exact).artifact,
        "why": f"{int8.artifact} takes {said}",
        "runtime": f"{target.runtime} {int8.environment['runtime_version']}",
        "machine": f"{int8.environment.get('cpu_model', 'a CPU')}, {int8.threads} threads",
        "p50_ms": {one.artifact: round(summary(one).p50_s * 1e3, 4) for one in (int8, exact)},
    }

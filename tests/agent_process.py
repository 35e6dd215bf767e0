"""The agent as a board starts it: its own file, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a verb of the agent ended: exit code, its JSON object, and what it said on stderr."""

    code: int
    told: dict[str, Any]
    err: str


def run_agent(bundle: Path, *arguments: str, root: Path | None = None) -> Ended:
    """Run a verb of a bundle's own agent.pyz in a new process, in a folder that holds nothing of slimdeploy."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if root is not None:
        environment["SLIMDEPLOY_BOARD_ROOT"] = str(root)
    verb, *rest = arguments
    argv = [sys.executable, str(bundle / "agent.pyz"), verb, "--bundle", str(bundle), "--json", *rest]
    ended = subprocess.run(argv, cwd=bundle.parent, env=environment, capture_output=True, text=True, timeout=120)
    lines = ended.stdout.strip().splitlines()
    return Ended(ended.returncode, json.loads(lines[-1]) if lines else {}, ended.stderr)

"""`slimdeploy demo`: the whole way on rendered scenes, on any computer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import JsonOption

NAME = "demo"


def command(
    out: Annotated[
        Path, typer.Option("--out", help="The demo's folder; run again, it goes on where it stopped.")
    ] = Path("demo-run"),
    json: JsonOption = False,
) -> None:
    """Render aerial scenes, train a detector on them, make it smaller and measure what that did.

    Example: slimdeploy demo --out demo-run
    """
    from slimdeploy.cli.run import show_run
    from slimdeploy.demo import RUN, run_demo

    show_run(run_demo(out), out / RUN, json=json)

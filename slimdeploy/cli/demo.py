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
    quick: Annotated[
        bool, typer.Option("--quick", help="One epoch of everything: shows that all works, and no accuracy.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Render aerial scenes, train a detector on them, make it smaller and measure what that did.

    Example: slimdeploy demo --out demo-run
    """
    from slimdeploy._needs import needs
    from slimdeploy.cli.run import show_run

    with needs("train"):
        from slimdeploy.demo import RUN, run_demo

        report = run_demo(out, quick=quick)
    show_run(report, out / RUN, json=json)

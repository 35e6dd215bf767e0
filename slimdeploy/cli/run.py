"""`slimdeploy run`: a recipe, from weights to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import JsonOption, TrustOption, show
from slimdeploy.records import Report

NAME = "run"


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML; examples/ has some.")],
    out: Annotated[Path, typer.Option("--out", help="The recipe's folder; run again, it goes on where it stopped.")],
    data: Annotated[Path | None, typer.Option("--data", help="A data set's YAML in place of the recipe's.")] = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Run a recipe stage by stage: train, sparsify, prune, fine-tune, export, bench, report.

    Example: slimdeploy run examples/aerial_cars.toml --out runs/aerial
    """
    from slimdeploy.pipeline import run_recipe
    from slimdeploy.recipes import read_recipe

    show_run(run_recipe(read_recipe(recipe, data=data), out, trust=trust), out, json=json)


def show_run(report: Report, out: Path, *, json: bool) -> None:
    """Print a finished run: its table and where the page lies."""
    from slimdeploy.pipeline import REPORT
    from slimdeploy.report.document import as_document
    from slimdeploy.report.terminal import as_text

    page = out / REPORT / "report.html"
    show(
        {"page": str(page), **as_document(report)},
        text=f"{as_text(report)}\n\nreport: {page}",
        as_json=json,
        complete=out,
    )

"""`slimdeploy gate`: fail a build whose model is too slow, too large or not accurate enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimdeploy.cli._shared import JsonOption, show, table

if TYPE_CHECKING:
    from slimdeploy.report.gate import Check

NAME = "gate"
HEADER = ("model", "figure", "measured", "asked", "")
OPEN = "the bound lies in its 95 % interval, so other images of this kind might give the other verdict"
NOT_MEASURED = "\N{EN DASH}"


def command(
    run: Annotated[Path, typer.Argument(help="A folder that `slimdeploy bench`, `val --out` or `run` wrote.")],
    min_map: Annotated[float | None, typer.Option("--min-map", help="Lowest mAP50-95, in 0..1.")] = None,
    max_p50_ms: Annotated[float | None, typer.Option("--max-p50-ms", help="Highest median latency, in ms.")] = None,
    max_size_mb: Annotated[float | None, typer.Option("--max-size-mb", help="Largest file, in MB.")] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", help="Largest loss of mAP50-95 against the first row, in points.")
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option("--row", help="A row to check, again for more; else the tuned or the last one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Hold a run's figures against bounds; end with code 5 when one is not met, or was not measured.

    Example: slimdeploy gate runs/aerial --min-map 0.40 --max-p50-ms 30 --max-drop 1.0
    """
    from slimdeploy.report.build import report_from
    from slimdeploy.report.gate import Bounds, as_document, check, failure

    bounds = Bounds(min_map=min_map, max_p50_ms=max_p50_ms, max_size_mb=max_size_mb, max_drop=max_drop)
    checks = check(report_from([run]), bounds, names=row or ())
    failed = failure(checks)
    told = {} if failed is None else failed.as_json()
    show({**as_document(checks), **told}, text=as_text(checks), as_json=json)
    if failed is None:
        return
    if not json:
        raise failed
    typer.echo(f"slimdeploy: {failed}", err=True)  # stdout has its one object already, which holds the error
    raise typer.Exit(failed.exit_code)


def as_text(checks: Sequence[Check]) -> str:
    """Return the checks as a table; below it, why a figure was not measured, and where more images might turn one."""
    rows = [
        (one.row, one.figure, NOT_MEASURED if one.missing else one.found, one.asked, "ok" if one.passed else "FAILED")
        for one in checks
    ]
    reasons = [f"{one.row} {one.figure} {one.found}" for one in checks if one.missing]
    reasons += [f"{one.row} {one.figure}: {OPEN}" for one in checks if one.open]
    return "\n".join([table(HEADER, rows), *reasons])

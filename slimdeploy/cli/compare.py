"""`slimdeploy compare`: runs side by side, as a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import JsonOption, show
from slimdeploy.records import Report

NAME = "compare"


def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `slimdeploy bench`, `val --out` or `run` wrote.")],
    html: Annotated[Path | None, typer.Option("--html", help="The page to write; it must not exist.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder to make, for page, Markdown and JSON; it must not exist.")
    ] = None,
    across_machines: Annotated[
        bool,
        typer.Option("--across-machines", help="Compare rows of different machines, data or protocols all the same."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare models: accuracy, size and latency of every row against the first, with intervals.

    Example: slimdeploy compare runs/aerial --html report.html
    """
    from slimdeploy.outputs import refuse_existing
    from slimdeploy.report.build import report_from
    from slimdeploy.report.document import as_document
    from slimdeploy.report.terminal import as_text

    for path in (html, out):
        if path is not None:
            refuse_existing(path)
    report = report_from(runs, across_machines=across_machines)
    written = _written(report, html, out)
    said = "".join(f"\n{path}" for path in written)
    show(
        {**as_document(report), "written": [str(path) for path in written]},
        text=as_text(report) + (f"\n\nwritten:{said}" if written else ""),
        as_json=json,
        complete=" and ".join(str(path) for path in (html, out) if path is not None),
    )


def _written(report: Report, html: Path | None, out: Path | None) -> list[Path]:
    """Write the forms that were asked for and return their paths."""
    from slimdeploy.outputs import whole_folder
    from slimdeploy.report.html import as_html
    from slimdeploy.report.write import write_page, write_report

    written: list[Path] = []
    if html is not None:
        write_page(as_html(report), html)
        written.append(html)
    if out is not None:
        with whole_folder(out) as folder:
            names = [path.name for path in write_report(report, folder)]
        written.extend(out / name for name in names)
    return written

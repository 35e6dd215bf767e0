"""Write a report in all of its forms."""

from __future__ import annotations

from pathlib import Path

from slimdeploy.lineage import write_json
from slimdeploy.records import Report
from slimdeploy.report.document import as_document
from slimdeploy.report.html import as_html, gammas_png
from slimdeploy.report.markdown import as_markdown

PAGE, MARKDOWN, DOCUMENT, GAMMAS = "report.html", "report.md", "report.json", "gammas.png"


def write_report(report: Report, out: Path) -> tuple[Path, ...]:
    """Write report.html, report.md, report.json and, after sparsity training, gammas.png.

    Args:
        report: the comparison.
        out: an existing folder; files of these names in it are replaced.

    Returns:
        The paths of what was written.

    Raises:
        MissingDependency: the extra `report` is not installed.
    """
    page, picture = as_html(report), gammas_png(report)
    write_page(page, out / PAGE)
    write_page(as_markdown(report), out / MARKDOWN)
    write_json(out / DOCUMENT, as_document(report))
    written = [out / PAGE, out / MARKDOWN, out / DOCUMENT]
    if picture is not None:
        (out / GAMMAS).write_bytes(picture)
        written.append(out / GAMMAS)
    return tuple(written)


def write_page(text: str, path: Path) -> None:
    """Write a text so that it is either whole or not there."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

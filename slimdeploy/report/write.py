"""Write a report in all of its forms."""

from __future__ import annotations

from pathlib import Path

from slimdeploy.lineage import write_json
from slimdeploy.outputs import whole_file
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
    write_page(page, out / PAGE, replace=True)
    write_page(as_markdown(report), out / MARKDOWN, replace=True)
    write_json(out / DOCUMENT, as_document(report))
    written = [out / PAGE, out / MARKDOWN, out / DOCUMENT]
    if picture is not None:
        with whole_file(out / GAMMAS, replace=True) as partial:
            partial.write_bytes(picture)
        written.append(out / GAMMAS)
    return tuple(written)


def write_page(text: str, path: Path, *, replace: bool = False) -> None:
    """Write a text so that it is either whole or not there.

    Args:
        text: what to write.
        path: the final name.
        replace: take the place of an older file.

    Raises:
        OutputExists: `path` is there, and `replace` is not set.
    """
    with whole_file(path, replace=replace) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")

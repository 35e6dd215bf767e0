"""A report as the JSON object that report.schema.json describes."""

from __future__ import annotations

import dataclasses
from typing import Any

from slimdeploy.lineage import SCHEMA
from slimdeploy.records import Report, as_json
from slimdeploy.report.cells import table
from slimdeploy.report.findings import compared_row, headline, pareto_front, speedups
from slimdeploy.report.remarks import warnings


def as_document(report: Report) -> dict[str, Any]:
    """Return a report and what it finds as one JSON-ready object; what was not measured is null.

    `rows` are the records with every raw sample; `table` holds the figures that the other forms show. Scenes
    come without their pictures, which the page alone holds.
    """
    return {
        "schema": SCHEMA,
        **as_json(_without_pictures(report)),
        "headline": headline(report),
        "compared": [report.rows[0].name, compared_row(report).name],
        "table": _figures(report),
        "pareto_front": [row.name for row in pareto_front(report)],
        "warnings": [{"text": text, "models": list(names)} for text, names in warnings(report)],
    }


def _without_pictures(report: Report) -> Report:
    if report.evaluation is None:
        return report
    scenes = tuple(dataclasses.replace(scene, jpeg="") for scene in report.evaluation.scenes)
    return dataclasses.replace(report, evaluation=dataclasses.replace(report.evaluation, scenes=scenes))


def _figures(report: Report) -> list[dict[str, Any]]:
    return [
        {
            **{key: cell.value for key, cell in cells.items() if key not in ("speedup", "difference")},
            "difference": {**dataclasses.asdict(row.difference), "shown": row.difference.shown}
            if row.difference
            else None,
            "speedup": {**dataclasses.asdict(found), "shown": found.shown} if found else None,
        }
        for row, cells, found in zip(report.rows, table(report), speedups(report), strict=True)
    ]

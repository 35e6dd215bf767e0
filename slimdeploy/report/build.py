"""Bring runs together in one Report, and refuse to compare what cannot be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.bench.machines import machines, same_machine
from slimdeploy.errors import UsageError
from slimdeploy.lineage import RECIPE_FILE, read_json
from slimdeploy.records import Report, Row
from slimdeploy.report.differences import against_first
from slimdeploy.report.evaluation import joined, read_evaluation
from slimdeploy.report.read import bench_file, read_lineage, read_rows, read_widths

RENDERED_NOTE = "Accuracy was scored on rendered scenes, not photographs."
COCO = "COCO metric"
OTHER_RULES_NOTE = "Accuracy is by {}: mAP50-95 and mAP50 stand for its AP and AP50."
APART_NOTE = "These runs were not timed in turns: drift between them is in no interval."

TOLD = 5  # of the layers that a network hangs on most, in a note; the page draws more


def report_from(folders: Sequence[Path], *, across_machines: bool = False) -> Report:
    """Return the comparison of one or more runs.

    Args:
        folders: folders that `slimdeploy bench`, `val --out` or `run` wrote; the first row of the first one is what the
            others are compared with.
        across_machines: compare rows of different machines, data sets or protocols all the same, with a note that says
            so.

    Raises:
        UsageError: a folder is missing, holds no bench results or damaged ones, or a newer slimdeploy wrote it; or
            the rows are of different machines, data sets or protocols.
    """
    if not folders:
        raise UsageError("no runs to compare", wanted="one or more folders")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("a run is named twice", wanted="each run once")
    names = _names(folders)
    parts = [_one_run(folder) for folder in folders]
    rows = _joined_rows(names, against_first(folders, [part.rows for part in parts]))
    across = _require_comparable(rows, across_machines=across_machines)
    evaluation = joined([part.evaluation for part in parts], _renamed(rows, [part.rows for part in parts]))
    several = [APART_NOTE] if len(folders) > 1 else []
    return Report(
        title=" and ".join(dict.fromkeys(part.title for part in parts)),
        rows=rows,
        widths=tuple(_prefixed(names, [part.widths for part in parts])),
        lineage=tuple({**one, "run": name} for name, part in zip(names, parts, strict=True) for one in part.lineage),
        notes=tuple(dict.fromkeys([*(note for part in parts for note in part.notes), *several, *across, *_own(rows)])),
        evaluation=evaluation,
    )


def _one_run(folder: Path) -> Report:
    path = bench_file(folder)
    results = read_json(path, what="results file of `slimdeploy bench`")
    notes = results.get("notes", [])
    return Report(
        title=_title(folder, results),
        rows=read_rows(path, results),
        widths=read_widths(folder),
        lineage=read_lineage(folder),
        notes=(*map(str, notes if isinstance(notes, list) else ()), *_pruning_notes(read_lineage(folder))),
        evaluation=read_evaluation(folder),
    )


def _pruning_notes(lineage: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Say whether a latency rests on measurements, which layers all hangs on, and how well weights could be fitted."""
    for results in (one.get("results", {}) for one in lineage if one.get("stage") == "prune"):
        if latency := results.get("latency"):
            unmeasured = "estimated, not measured" if latency["estimated"] else "planned, not measured"
            kind = "measured" if latency.get("measured_ms") else unmeasured
            yield (
                f"Pruned to {latency['asked_ms']:.2f} ms on {latency['target']}: {latency['speedup']:.2f} times as "
                f"fast, {kind} ({latency['source']})."
            )
        if tried := results.get("sensitivities"):
            named = ", ".join(
                f"{one['groups'][0]} ({one['positives'][1]} of {one['positives'][0]} detections left)"
                for one in tried[:TOLD]
            )
            yield f"Narrowed alone to about half, these layers changed the outputs most: {named}."
        if fit := results.get("fit"):
            before, after = (mean(one[when] for one in fit["layers"]) for when in ("before", "after"))
            yield (
                f"After the cut the weights of {len(fit['layers'])} layers were fitted to what the whole network gave "
                f"on {fit['images']} training images: of the variance of a layer's outputs they missed {before:.1%} "
                f"before and {after:.1%} after, on average."
            )


def _title(folder: Path, results: Mapping[str, Any]) -> str:
    asked = read_json(folder / RECIPE_FILE, what="recipe's record") if (folder / RECIPE_FILE).exists() else {}
    return str(asked.get("title") or results.get("title") or folder.resolve().name)


def _names(folders: Sequence[Path]) -> list[str]:
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [folder.as_posix() for folder in folders]


def _joined_rows(names: Sequence[str], runs: Sequence[tuple[Row, ...]]) -> tuple[Row, ...]:
    """Return all rows; each with its run's name in front where two rows would be named alike."""
    rows = [row for run in runs for row in run]
    if len({row.name for row in rows}) == len(rows) or len(runs) == 1:
        return tuple(rows)
    return tuple(
        dataclasses.replace(row, name=f"{name}: {row.name}")
        for name, run in zip(names, runs, strict=True)
        for row in run
    )


def _renamed(rows: Sequence[Row], runs: Sequence[tuple[Row, ...]]) -> list[dict[str, str]]:
    """Return of each run its rows' names in the report by those in the run itself."""
    left = iter(rows)
    return [{row.name: next(left).name for row in run} for run in runs]


def _prefixed(names: Sequence[str], runs: Sequence[tuple[tuple[str, int, int], ...]]) -> Iterable[tuple[str, int, int]]:
    several = sum(1 for widths in runs if widths) > 1
    for name, widths in zip(names, runs, strict=True):
        for layer, before, after in widths:
            yield (f"{name}: {layer}" if several else layer, before, after)


def _require_comparable(rows: Sequence[Row], *, across_machines: bool) -> list[str]:
    """Return the notes on what differs between rows, if that was allowed."""
    timed = machines(one.environment for row in rows for one in (row.latency, row.end_to_end) if one)
    data = _distinct(row.accuracy.data for row in rows if row.accuracy)
    rules = _distinct(row.accuracy.metric for row in rows if row.accuracy)
    notes = []
    for what, found in (("machines", timed), ("data sets", data), ("protocols", rules)):
        if len(found) < 2:
            continue
        named = "; ".join(found)
        if not across_machines:
            raise UsageError(
                f"the rows are of different {what}: {named}",
                wanted=f"rows of the same {what.removesuffix('s')}",
                do="measure again on one, or pass --across-machines to see them side by side",
            )
        notes.append(f"Rows are of different {what} ({named}): their ratios compare those, too.")
    return notes


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _own(rows: Sequence[Row]) -> list[str]:
    """Return the notes that follow from the rows themselves."""
    scored = [row.accuracy for row in rows if row.accuracy]
    notes = [RENDERED_NOTE] if any(one.rendered for one in scored) else []
    notes += [OTHER_RULES_NOTE.format(metric) for metric in _distinct(one.metric for one in scored) if metric != COCO]
    timed = [row.latency for row in rows if row.latency]
    readings: Mapping[str, set[str]] = {
        "batch sizes": {str(one.batch) for one in timed},
        "numbers of threads": {str(one.threads) for one in timed},
        "scopes": {one.scope for one in timed},
        "numbers of rounds, so that some show no speed-up": {str(len(one.rounds)) for one in timed},
    }
    for what, found in readings.items():
        if len(found) > 1:
            notes.append(f"Rows were timed with different {what}: {', '.join(sorted(found))}.")
    if any(len(one.rounds) < stats.MIN_ROUNDS for one in timed[1:]):
        notes.append(f"Fewer than {stats.MIN_ROUNDS} rounds show no difference of speed: measure again with more.")
    if any(not same_machine(timed[0].environment, one.environment) for one in timed[1:]):
        notes.append("Rows were timed with different settings or versions of the machine: see the environment.")
    return notes

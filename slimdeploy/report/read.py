"""Read what the stages left in a run's folder: rows, widths and run records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimdeploy.bench import stats
from slimdeploy.errors import UsageError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, why_malformed
from slimdeploy.lineage import RUN_FILE, read_json, read_run
from slimdeploy.records import Accuracy, Interval, LayerTime, Measurement, Offered, Power, Row
from slimdeploy.report.results import require_results

BENCH_FILE = "bench.json"
PLAN_FILE = "plan.json"
STAGES = ("train", "sparsify", "prune", "finetune", "export", "bench")  # the order in which lineage is told
RECORDS: Mapping[str, Any] = {  # of a row, each one or none
    "accuracy": Accuracy, "latency": Measurement, "difference": Interval, "end_to_end": Measurement, "offered": Offered,
}  # fmt: skip
LISTS: Mapping[str, Any] = {"power": Power, "layers": LayerTime}  # of a row, each any number
SET_ASIDE = ("previous", "report")  # folders of a recipe that are no part of its present outcome


def bench_file(run: Path) -> Path:
    """Return the bench.json of a bench folder or of a recipe's folder.

    Raises:
        UsageError: there is no such folder, or it holds no bench results.
    """
    if not run.is_dir():
        raise UsageError(f"no folder {run}", wanted="a folder that `slimdeploy bench`, `val --out` or `run` wrote")
    for place in (run / BENCH_FILE, run / "bench" / BENCH_FILE):
        if place.is_file():
            return place
    raise UsageError(
        f"{run} holds no {BENCH_FILE}",
        wanted="a folder that `slimdeploy bench`, `val --out` or `run` wrote",
        do="run `slimdeploy bench ARTIFACT... --out DIR` and compare that folder",
    )


def read_rows(path: Path, results: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the rows of a bench.json that is read already.

    Raises:
        UsageError: a row is damaged, or there is none.
    """
    rows = results.get("rows")
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"{path} is damaged: it holds no rows", do="run the bench again")
    try:
        return tuple(_row(plain) for plain in rows)
    except MALFORMED as error:
        raise UsageError(
            f"{path} is damaged: {why_malformed(error)}", do="run the bench again, or upgrade slimdeploy"
        ) from error


def _row(plain: Mapping[str, Any]) -> Row:
    single = {
        name: None if plain.get(name) is None else kind(**_with_tuples(plain[name])) for name, kind in RECORDS.items()
    }
    several = {name: tuple(kind(**_with_tuples(one)) for one in plain.get(name) or ()) for name, kind in LISTS.items()}
    row = Row(**{**plain, **single, **several})
    require(row)
    for timed in (row.latency, row.end_to_end):
        if timed is not None:
            stats.round_medians(timed)  # raises where the rounds do not add up
    return row


def _with_tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}


def read_widths(run: Path) -> tuple[tuple[str, int, int], ...]:
    """Return each convolution's width before and after pruning, or () where the run holds no plan.

    Of several passes, the widths before the first and after the last.

    Raises:
        UsageError: a plan is damaged, or a newer slimdeploy wrote it.
    """
    found = [_plan_widths(path) for path in _plans(run)]
    if not found:
        return ()
    return tuple((layer, before, found[-1].get(layer, (0, before))[1]) for layer, (before, _) in found[0].items())


def _plans(run: Path) -> list[Path]:
    """Return the plans of a run, in the order of its passes."""
    single = next((p for p in (run / PLAN_FILE, run / "prune" / PLAN_FILE) if p.is_file()), None)
    return (
        [single]
        if single
        else sorted(run.glob(f"pass-*/prune/{PLAN_FILE}"), key=lambda path: _pass_number(path.parts[-3]))
    )


def _pass_number(folder: str) -> int:
    """Return which pass of a recipe a folder belongs to, from 1 on, or 0 for what belongs to none."""
    number = folder.partition("/")[0].removeprefix("pass-")
    return int(number) if number.isdecimal() else 0


def _plan_widths(path: Path) -> dict[str, tuple[int, int]]:
    plan = read_json(path, what="plan")
    try:
        return {
            str(layer): (int(group["width"]), len(group["kept"]))
            for group in plan["groups"]
            for layer in group["layers"]
        }
    except MALFORMED as error:
        raise UsageError(f"{path} is damaged: {why_malformed(error)}", do="prune again") from error


def read_lineage(run: Path) -> tuple[dict[str, Any], ...]:
    """Return the run.json records below a run's folder in the order of the stages, each with its `folder`.

    Raises:
        UsageError: one of them is damaged, or a newer slimdeploy wrote it.
    """
    found = [place.parent for pattern in (RUN_FILE, f"*/{RUN_FILE}", f"*/*/{RUN_FILE}") for place in run.glob(pattern)]
    records = []
    for folder in found:
        parts = folder.relative_to(run).parts
        if parts and (parts[0] in SET_ASIDE or any(part.startswith(".") for part in parts)):
            continue
        record = read_run(folder)
        try:
            require_results(record["results"])
        except UsageError as error:
            raise UsageError(
                f"{folder / RUN_FILE} is damaged: {why_malformed(error)}", do="make that stage again"
            ) from error
        records.append({**record, "folder": "/".join(parts) or run.resolve().name})
    return tuple(sorted(records, key=_place_in_order))


def _place_in_order(record: Mapping[str, Any]) -> tuple[bool, int, int, str]:
    stage, folder = record.get("stage"), str(record["folder"])
    at = STAGES.index(stage) if stage in STAGES else len(STAGES)
    return (at >= STAGES.index("export"), _pass_number(folder), at, folder)

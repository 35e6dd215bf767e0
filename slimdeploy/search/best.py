"""Choose a trial of a search, and hand out the recipe that makes it again and the bundle that it made."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from slimdeploy.errors import GateError, StageFailed, UsageError
from slimdeploy.lineage import RUN_FILE, write_json
from slimdeploy.outputs import refuse_existing, whole_folder
from slimdeploy.search.folder import Folder, open_folder
from slimdeploy.search.recipe import recipe_text
from slimdeploy.search.run import status
from slimdeploy.search.spec import CONSTRAINTS
from slimdeploy.search.store import UrlStore
from slimdeploy.search.study import Record
from slimdeploy.search.trial import DONE
from slimdeploy.search.view import View, shown

RECIPE, BUNDLE, TRIAL = "recipe.toml", "bundle", "trial.json"


def best(
    search: Path, out: Path, bounds: Mapping[str, float], *, number: int | None = None, storage: str = ""
) -> Record:
    """Write the best trial within bounds: `recipe.toml`, which makes it again, its `bundle`, and `trial.json`.

    Args:
        search: the search's folder.
        out: the folder to make.
        bounds: by the constraints' names; the search's own hold where none is given.
        number: take this trial.
        storage: the study's URL, where it is not in the folder.

    Returns:
        The trial.

    Raises:
        GateError: no trial is within the bounds.
        OutputExists: `out` is there already.
        StageFailed: the trial's bundle is not in the cache any more.
        UsageError: `search` is no search's folder, or there is no such trial.
    """
    refuse_existing(out)
    folder, view = open_folder(search), status(search, storage)
    chosen = _numbered(view, number) if number is not None else choose(view, bounds)
    bundle = _bundle(folder, chosen)
    with whole_folder(out) as partial:
        (partial / RECIPE).write_text(recipe_text(folder.spec, chosen.values), encoding="utf-8")
        shutil.copytree(bundle, partial / BUNDLE)
        write_json(
            partial / TRIAL,
            {"schema": 1, "trial": chosen.number, "values": chosen.values, "figures": chosen.figures},
        )  # fmt: skip
    return chosen


def choose(view: View, bounds: Mapping[str, float]) -> Record:
    """Return the most accurate trial within bounds; the quicker, then the smaller, of equally accurate ones.

    Raises:
        GateError: there is none.
    """
    done = view.having(DONE)
    asked = {**view.spec.constraints, **bounds}
    able = [one for one in done if all(_within(one, name, bound) for name, bound in asked.items())]
    if not able:
        told = ", ".join(f"{name} {bound:g}" for name, bound in asked.items())
        raise GateError(
            f"none of {len(done)} finished trials is within {told}{_nearest(done, asked)}",
            do="loosen a bound, or search on with a larger budget: --resume",
        )
    return min(able, key=lambda one: [_cost(one, name, sign) for name, sign in _ORDER])


_ORDER = (("map50_95", -1), ("p50_ms", 1), ("size_mb", 1))


def _cost(one: Record, name: str, sign: int) -> float:
    return sign * one.figures.get(name, 0.0)


def _within(one: Record, name: str, bound: float) -> bool:
    figure, lowest = CONSTRAINTS[name]
    found = one.figures.get(figure)
    return found is not None and (found >= bound if lowest else found <= bound)


def _nearest(done: list[Record], asked: Mapping[str, float]) -> str:
    """Return what the best figure of each bound is, to be told beside it."""
    ends = []
    for name in asked:
        figure, lowest = CONSTRAINTS[name]
        found = [one.figures[figure] for one in done if figure in one.figures]
        if found:
            ends.append(f"{'highest' if lowest else 'lowest'} {figure} {shown((max if lowest else min)(found))}")
    return f" ({', '.join(ends)})" if ends else ""


def _numbered(view: View, number: int) -> Record:
    for one in view.records:
        if one.number == number and one.state == DONE:
            return one
    known = ", ".join(str(one.number) for one in view.having(DONE))
    raise UsageError(f"no trial {number} that is done", wanted=f"one of {known}" if known else "one that is done")


def _bundle(folder: Folder, chosen: Record) -> Path:
    place = folder.cache / chosen.bundle
    if not (place / RUN_FILE).exists() and not (folder.store and UrlStore(folder.store).fetch(chosen.bundle, place)):
        raise StageFailed(
            f"the bundle of trial {chosen.number} is not in the cache any more",
            do=f"make it again: slimdeploy search --resume --out {folder.path}, or run its recipe",
        )
    return place

"""The report of a search: one page that loads nothing, and beside it the recipe of every trial that is done."""

from __future__ import annotations

import importlib.resources
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slimdeploy import __version__
from slimdeploy.report.templates import page_environment
from slimdeploy.report.write import write_page
from slimdeploy.search.plots import search_plots
from slimdeploy.search.recipe import recipe_text
from slimdeploy.search.study import Record
from slimdeploy.search.trial import DONE
from slimdeploy.search.view import View, failures, header, headline, rows

PAGE, RECIPES = "report.html", "recipes"
TEMPLATE = "page.html.j2"


def write_report(view: View, importances: Mapping[str, Mapping[str, float]], folder: Path) -> Path:
    """Write `report.html` and `recipes/NUMBER.toml` into a search's folder.

    Args:
        view: the search.
        importances: what share each setting has in each objective.
        folder: the search's folder, as the commands on the page name it.

    Returns:
        The page's path.

    Raises:
        MissingDependency: the extra `report` is not installed.
    """
    (folder / RECIPES).mkdir(exist_ok=True)
    for one in view.having(DONE):
        write_page(recipe_text(view.spec, one.values), recipe_path(folder, one), replace=True)
    write_page(as_html(view, importances, folder), folder / PAGE, replace=True)
    return folder / PAGE


def recipe_path(folder: Path, one: Record) -> Path:
    """Return where a trial's recipe is written."""
    return folder / RECIPES / f"{one.number:04d}.toml"


def command(folder: Path, one: Record) -> str:
    """Return the command that makes a trial again; "" for one that is not done."""
    if one.state != DONE:
        return ""
    return shlex.join(["slimdeploy", "run", recipe_path(folder, one).as_posix(), "--out", f"again-{one.number}"])


def as_html(view: View, importances: Mapping[str, Mapping[str, float]], folder: Path) -> str:
    """Return a search as a page that loads nothing from anywhere."""
    environment = page_environment()
    source = importlib.resources.files("slimdeploy.search").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page: str = environment.from_string(source).render(_content(view, importances, folder))
    return page


def _content(view: View, importances: Mapping[str, Mapping[str, float]], folder: Path) -> dict[str, Any]:
    best = {one.number for one in view.front}
    order = sorted(view.records, key=lambda one: one.number)
    spec = view.spec
    return {
        "version": __version__,
        "title": spec.title,
        "headline": headline(view),
        "asked": [f"{name} {bound:g}" for name, bound in spec.constraints.items()],
        "sampler": spec.config,
        "columns": header(spec),
        "rows": [
            {"cells": cells, "front": one.number in best, "command": command(folder, one)}
            for one, cells in zip(order, rows(view), strict=True)
        ],
        "failures": failures(view),
        "plots": search_plots(view, importances),
    }

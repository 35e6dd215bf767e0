"""SEARCH.toml: which settings of a recipe are searched, by what they are judged, and what the search may cost."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.configs import SearchConfig, TrialConfig, build
from slimdeploy.errors import UsageError
from slimdeploy.fields import is_number
from slimdeploy.files import read_toml
from slimdeploy.recipes import read_raw, recipe_from
from slimdeploy.search.space import Setting, read_space, with_values

# Each objective, and whether more of it is better.
OBJECTIVES: Mapping[str, bool] = {"map50_95": True, "p50_ms": False, "size_mb": False, "joules": False}
# Each constraint: the figure that it bounds, and whether the bound is the lowest value.
CONSTRAINTS: Mapping[str, tuple[str, bool]] = {
    "min_map": ("map50_95", True),
    "max_p50_ms": ("p50_ms", False),
    "max_size_mb": ("size_mb", False),
}
SECTIONS = ("space", "constraints", "budget", "trial")
KEYS = ("title", "recipe", "objectives", "sampler", "seed", "batch", *SECTIONS)
DEFAULT_OBJECTIVES = ("map50_95", "p50_ms", "size_mb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A search that was asked for.

    Attributes:
        title: heading of the report.
        recipe: the recipe's TOML, which says all that is not searched.
        place: where that recipe stands; paths in it are relative to its folder.
        data: a data set's YAML that stands in for the recipe's own, or None.
        space: the settings that are searched.
        objectives: names of figures, as in OBJECTIVES.
        constraints: bounds by name, as in CONSTRAINTS.
        config: how trials are chosen, and how many.
        trial: what one trial may take.
    """

    title: str
    recipe: Mapping[str, Any]
    place: Path
    data: Path | None
    space: tuple[Setting, ...]
    objectives: tuple[str, ...]
    constraints: Mapping[str, float]
    config: SearchConfig
    trial: TrialConfig

    @property
    def identity(self) -> str:
        """What a study must agree in, as 16 hex digits: all but the budget and what a trial may take."""
        told = [
            self.recipe, [dataclasses.asdict(one) for one in self.space], self.objectives, dict(self.constraints),
            self.config.sampler, self.config.seed, self.config.batch,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def violations(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return by how much each constraint is missed; 0 or less where it is met."""
        missed = {}
        for name, bound in self.constraints.items():
            figure, lowest = CONSTRAINTS[name]
            if figure in figures:
                missed[name] = bound - figures[figure] if lowest else figures[figure] - bound
        return missed


def read_spec(path: Path, *, data: Path | None = None) -> Spec:
    """Read a SEARCH.toml and the recipe that it names.

    Args:
        path: the TOML.
        data: a data set's YAML that stands in for the recipe's own.

    Raises:
        UsageError: a file is missing or damaged, or a key or value is wrong.
    """
    raw = read_toml(path, what="search")
    try:
        _require_shape(raw)
        if not isinstance(recipe := raw.get("recipe"), str):
            raise UsageError("no recipe", wanted='recipe = "recipe.toml", which says all that is not searched')
        place = path.parent / recipe
        return spec_from(raw, read_raw(place), place, data=data)
    except UsageError as error:
        raise UsageError(f"{path}: {error.wrong}", wanted=error.wanted, do=error.do) from error


def spec_from(raw: Mapping[str, Any], recipe: Mapping[str, Any], place: Path, *, data: Path | None = None) -> Spec:
    """Return the search that a TOML's content stands for.

    Raises:
        UsageError: a value is wrong, or the space is closed.
    """
    _require_shape(raw)
    budget = dict(raw.get("budget", {}))
    if unknown := sorted(set(budget) - {"trials", "hours"}):
        raise UsageError(f"budget has the unknown key {unknown[0]!r}", wanted="trials and hours")
    chosen = {key: raw[key] for key in ("sampler", "seed", "batch") if key in raw}
    spec = Spec(
        title=raw.get("title", recipe.get("title", place.stem)),
        recipe=recipe,
        place=place.resolve(),
        data=data.resolve() if data else None,
        space=read_space(raw.get("space", {})),
        objectives=_objectives(raw.get("objectives", list(DEFAULT_OBJECTIVES))),
        constraints=_constraints(raw.get("constraints", {})),
        config=build(SearchConfig, {**chosen, **budget}),
        trial=build(TrialConfig, raw.get("trial", {}), where="trial."),
    )
    _require_valid_values(spec)
    _require_open(spec)
    return spec


def _require_shape(raw: Mapping[str, Any]) -> None:
    """Raise UsageError unless a search has known keys alone, and sections where sections belong."""
    if unknown := sorted(set(raw) - set(KEYS)):
        raise UsageError(f"the unknown key {brief(unknown[0])}", wanted=f"one of {', '.join(KEYS)}")
    for name in SECTIONS:
        if not isinstance(raw.get(name, {}), dict):
            raise UsageError(f"{name} is no section", wanted=f"[{name}] and settings below it")
    if not (isinstance(title := raw.get("title", ""), str) and title.isprintable()):
        raise UsageError(f"title is {brief(title)}", wanted="a text in one line")


def _objectives(asked: Any) -> tuple[str, ...]:
    if not isinstance(asked, list) or not asked:
        raise UsageError("objectives is no list", wanted=f"some of {', '.join(OBJECTIVES)}")
    if unknown := [name for name in asked if not isinstance(name, str) or name not in OBJECTIVES]:
        raise UsageError(f"the unknown objective {brief(unknown[0])}", wanted=f"some of {', '.join(OBJECTIVES)}")
    if len(set(asked)) < len(asked):
        raise UsageError("an objective is named twice", wanted="each once")
    return tuple(asked)


def _constraints(asked: Mapping[str, Any]) -> dict[str, float]:
    for name, bound in asked.items():
        if name not in CONSTRAINTS:
            raise UsageError(f"the unknown constraint {name!r}", wanted=f"some of {', '.join(CONSTRAINTS)}")
        if not is_number(bound):
            raise UsageError(f"constraints.{name} is {brief(bound)}", wanted="a finite number")
        if not bound > 0 or (name == "min_map" and bound >= 1):
            wanted = "above 0 and below 1" if name == "min_map" else "above 0"
            raise UsageError(f"constraints.{name} is {bound}, which no trial can meet", wanted=wanted)
    return {name: float(bound) for name, bound in asked.items()}


def _require_valid_values(spec: Spec) -> None:
    """Raise UsageError for a value that no recipe can have; each is tried beside the first value of the others."""
    first = {setting.name: setting.examples()[0] for setting in spec.space}
    for setting in spec.space:
        for value in setting.examples():
            try:
                recipe_from(with_values(spec.recipe, {**first, setting.name: value}), spec.place, data=spec.data)
            except UsageError as error:
                raise UsageError(
                    f"space.{setting.name} = {brief(value)} makes no recipe: {error.wrong}",
                    wanted=error.wanted,
                    do=error.do,
                ) from error


def _require_open(spec: Spec) -> None:
    """Raise UsageError where what is asked of the pruner rules out what the constraints ask for."""
    limit_ms = spec.constraints.get("max_p50_ms")
    if limit_ms is None:
        return
    prune = spec.recipe.get("prune", {})
    quickest = {"prune.latency_ms": lambda ms: float(ms), "prune.fps": lambda fps: 1000 / float(fps)}
    for name, to_ms in quickest.items():
        searched = next((one for one in spec.space if one.name == name), None)
        key = name.removeprefix("prune.")
        budgets = [one.name for one in spec.space if one.is_budget]
        values = searched.examples() if searched else [prune[key]] if key in prune and not budgets else []
        if values and min(map(to_ms, values)) > limit_ms * 1.05:  # what the pruner may miss its budget by
            raise UsageError(
                f"the space is closed: {name} asks for {min(map(to_ms, values)):g} ms or more, "
                f"and max_p50_ms allows {limit_ms:g} ms",
                wanted="a budget that the constraint leaves open",
            )

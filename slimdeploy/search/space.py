"""The space of a search: settings of a recipe, each with the values that it may take."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.configs import FIGURES, SHARES
from slimdeploy.errors import UsageError
from slimdeploy.fields import is_number
from slimdeploy.recipes import EXTRA_KEYS, SECTIONS

TOP = ("weights", "imgsz", "passes")  # settings of a recipe that stand in no section
MEASURING = ("bench", "val")  # the same for every trial, or their figures could not be compared
SAME_FOR_ALL = ("device", "seed", "precisions")
BUDGETS = (*SHARES, *FIGURES)
RANGE_KEYS = ("low", "high", "step", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting that is searched: a list of choices, or a range.

    Attributes:
        name: as in a recipe, with its section: `sparsify.sr`, `imgsz`.
        choices: the values, or () for a range.
        low: lowest value of a range.
        high: highest value of a range.
        step: of a range, or None for every value (every whole number where both ends are whole).
        log: whether a range is searched by its logarithm.
    """

    name: str
    choices: tuple[str | int | float | bool, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether a range holds whole numbers alone."""
        return all(isinstance(end, int) for end in (self.low, self.high, *([self.step] if self.step else [])))

    @property
    def is_budget(self) -> bool:
        """Whether this is what pruning is asked for, of which a recipe has one."""
        section, _, key = self.name.rpartition(".")
        return section == "prune" and key in BUDGETS

    def examples(self) -> list[Any]:
        """Return all choices, or both ends of a range."""
        return list(self.choices) if self.choices else [self.low, self.high]

    def count(self) -> float:
        """How many values there are; infinite for a range of fractions without a step."""
        if self.choices:
            return len(self.choices)
        step = self.step or (1 if self.is_whole else None)
        return math.floor((self.high - self.low) / step + 1e-9) + 1 if step else math.inf


def read_space(raw: Mapping[str, Any]) -> tuple[Setting, ...]:
    """Return the settings of a section [space], which is laid out as a recipe is.

    Raises:
        UsageError: there is none, or one is unknown, empty or cannot be searched.
    """
    found = []
    for name, value in raw.items():
        if name in SECTIONS:
            if not isinstance(value, Mapping):
                raise UsageError(f"space.{name} is no section", wanted=f"such as {name}.setting = [1, 2]")
            found += [_setting(f"{name}.{key}", one) for key, one in value.items()]
        else:
            found.append(_setting(name, value))
    if not found:
        raise UsageError("nothing to search", wanted="[space] with a setting, such as prune.speedup = [1.5, 2, 3]")
    budgets = [one.name for one in found if one.is_budget]
    if len(budgets) > 1:
        raise UsageError(f"two budgets of pruning: {' and '.join(budgets)}", wanted="one of them")
    if all(one.count() == 1 for one in found):
        raise UsageError("the space has a single point", wanted="a setting with several values, or slimdeploy run")
    return tuple(sorted(found, key=lambda one: one.name))


def _setting(name: str, raw: Any) -> Setting:
    _require_known(name)
    if isinstance(raw, list):
        if not raw or not all(isinstance(one, (str, bool)) or is_number(one) for one in raw):
            raise UsageError(f"space.{name} is {brief(raw)}", wanted="a list of one or more plain values")
        if len({repr(one) for one in raw}) < len(raw):
            raise UsageError(f"space.{name} names a value twice", wanted="each once")
        return Setting(name=name, choices=tuple(raw))
    if isinstance(raw, Mapping):
        return _range(name, raw)
    raise UsageError(f"space.{name} is {brief(raw)}", wanted="a list of values, or { low = …, high = … }")


def _require_known(name: str) -> None:
    section, _, key = name.rpartition(".")
    if section in MEASURING or key in SAME_FOR_ALL:
        raise UsageError(f"space.{name} cannot be searched", wanted="a setting that leaves trials comparable")
    if section and section not in SECTIONS:
        raise UsageError(f"the unknown setting space.{name}", wanted=f"a section, one of {', '.join(SECTIONS)}")
    if section:
        known = {field.name for field in dataclasses.fields(SECTIONS[section])} | {*EXTRA_KEYS.get(section, ())}
        known -= {*SAME_FOR_ALL}
    else:
        known = {*TOP}
    if key not in known:
        raise UsageError(f"the unknown setting space.{name}", wanted=f"one of {', '.join(sorted(known))}")


def _range(name: str, raw: Mapping[str, Any]) -> Setting:
    if unknown := sorted(set(raw) - set(RANGE_KEYS)):
        raise UsageError(f"space.{name} has the unknown key {unknown[0]!r}", wanted=", ".join(RANGE_KEYS))
    ends = [raw.get("low"), raw.get("high"), raw.get("step", 1)]
    if not all(map(is_number, ends)):
        raise UsageError(f"space.{name} is {brief(dict(raw))}", wanted="numbers as low, high and, if you like, step")
    low, high, step = ends
    log = raw.get("log", False)
    if not isinstance(log, bool) or (log and ("step" in raw or low <= 0)):
        raise UsageError(f"space.{name} cannot be searched by logarithm", wanted="low above 0, and no step")
    if not low < high or step <= 0:
        raise UsageError(f"space.{name} holds no value: {low} to {high}", wanted="low below high, and a step above 0")
    return Setting(name=name, low=low, high=high, step=step if "step" in raw else None, log=log)


def combinations(space: tuple[Setting, ...]) -> float:
    """Return how many points the space has; infinite where a range has no step."""
    return math.prod(one.count() for one in space)


def with_values(recipe: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's TOML with searched settings put in: one form is exported, and a budget takes another's place.

    Args:
        recipe: as recipes.read_raw returns it.
        values: by the settings' names.
    """
    made = copy.deepcopy(dict(recipe))
    export = made.setdefault("export", {})
    precisions = export.pop("precisions", None)
    if precisions and "precision" not in export:
        export["precision"] = precisions[0]
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        place = made.setdefault(section, {}) if section else made
        if section == "prune" and key in BUDGETS:
            for budget in BUDGETS:
                place.pop(budget, None)
        place[key] = value
    return {key: value for key, value in made.items() if value != {} or key != "export"}

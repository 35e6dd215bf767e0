"""Recipes: one TOML that says what the whole way from weights to report is made with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.board.text import brief
from slimdeploy.configs import (
    BenchConfig,
    Config,
    DenseConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
    SparsifyConfig,
    TrainConfig,
    ValConfig,
    build,
    require_settings,
)
from slimdeploy.errors import UsageError
from slimdeploy.files import read_toml

SECTIONS: Mapping[str, type[Any]] = {
    "train": DenseConfig,
    "sparsify": SparsifyConfig,
    "prune": PruneConfig,
    "finetune": FinetuneConfig,
    "export": ExportConfig,
    "bench": BenchConfig,
    "val": ValConfig,
}
SHARED = ("imgsz", "device", "seed")  # top-level keys that every section with such a setting inherits
STRINGS = ("title", "data", "weights", "target")
PASSES = "passes"
MOST_PASSES = 100
EXTRA_KEYS: Mapping[str, tuple[str, ...]] = {"finetune": ("distil",), "export": ("precisions",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What `slimdeploy run` does; sections that are not there leave their stage out.

    Attributes:
        title: heading of the report.
        data: the data set's YAML.
        weights: the dense checkpoint; None where the section `train` makes it.
        target: name of a target.
        train, sparsify, prune, finetune: a config for each stage, or None to leave it out.
        distil: whether fine-tuning learns from the dense network: `no`, `yes`, or `both` to train it with and without
            that teacher, so that the report can tell what the teacher gained.
        passes: how often to sparsify, prune a part of what the recipe asks for, and fine-tune.
        export: one config for each precision, the first of which every model is compared at.
        bench: how latency is measured.
        val: how accuracy is measured.
    """

    title: str
    data: Path
    weights: Path | None
    target: str
    train: DenseConfig | None
    sparsify: SparsifyConfig | None
    prune: PruneConfig
    finetune: FinetuneConfig | None
    distil: str
    passes: int
    export: tuple[ExportConfig, ...]
    bench: BenchConfig
    val: ValConfig


def read_recipe(path: Path, *, data: Path | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: the TOML. Paths in it are relative to it; `${NAME}` is taken from the environment.
        data: a data set's YAML that stands in for the recipe's own.

    Raises:
        UsageError: the file is missing or damaged, or a key or value is wrong.
    """
    return recipe_from(read_raw(path), path, data=data)


def recipe_from(raw: Mapping[str, Any], path: Path, *, data: Path | None = None) -> Recipe:
    """Return the recipe that a TOML's content stands for.

    Args:
        raw: as `read_raw` returns it.
        path: where it stands; paths in it are relative to its folder.
        data: a data set's YAML that stands in for the recipe's own.

    Raises:
        UsageError: a value is wrong.
    """
    try:
        require_shape(raw)
        return _recipe(raw, path, data)
    except UsageError as error:
        raise UsageError(f"{path}: {error.wrong}", wanted=error.wanted, do=error.do) from error


def section(path: Path | None, name: str) -> dict[str, Any]:
    """Return the settings that a recipe gives to one verb, for `--config`; {} without a recipe."""
    if path is None:
        return {}
    raw = read_raw(path)
    return {k: v for k, v in _layered(raw, name).items() if k not in EXTRA_KEYS.get(name, ())}


def read_raw(path: Path) -> dict[str, Any]:
    """Return a recipe's TOML as it stands; its keys and the types of its values are checked, but no range.

    Raises:
        UsageError: the file is missing or damaged, holds an unknown key, or a value of another type.
    """
    raw = read_toml(path)
    try:
        require_shape(raw)
    except UsageError as error:
        raise UsageError(f"{path}: {error.wrong}", wanted=error.wanted, do=error.do) from error
    return raw


def require_shape(raw: Mapping[str, Any]) -> None:
    """Raise UsageError for a key that no recipe has, or a value that is not of its setting's type."""
    known = {*STRINGS, PASSES, *SHARED, *SECTIONS}
    if unknown := sorted(set(raw) - known):
        raise UsageError(f"the unknown key {brief(unknown[0])}", wanted=f"one of {', '.join(sorted(known))}")
    for key in STRINGS:
        if not (isinstance(text := raw.get(key, ""), str) and text.isprintable()):
            raise UsageError(f"{key} is {brief(text)}", wanted="a text in one line")
    require_settings(TrainConfig, {key: raw[key] for key in SHARED if key in raw})
    for name, config in SECTIONS.items():
        section = raw.get(name, {})
        if not isinstance(section, Mapping):
            raise UsageError(f"{name} is no section", wanted=f"[{name}] and settings below it")
        own = {key: value for key, value in section.items() if key not in EXTRA_KEYS.get(name, ())}
        require_settings(config, own, where=f"{name}.")


def _recipe(raw: Mapping[str, Any], path: Path, data: Path | None) -> Recipe:
    named = data or _path(raw, "data", path)
    weights = _path(raw, "weights", path)
    if named is None:
        raise UsageError("no data set", wanted='data = "data.yaml"', do="add it, or pass --data")
    if (weights is None) == ("train" not in raw):
        raise UsageError("no single start", wanted="either weights, or a section [train] that makes them")
    return Recipe(
        title=raw.get("title", path.stem),
        data=named,
        weights=weights,
        target=raw.get("target", "cpu"),
        train=_config(DenseConfig, raw, "train") if "train" in raw else None,
        sparsify=_config(SparsifyConfig, raw, "sparsify") if "sparsify" in raw else None,
        prune=_config(PruneConfig, raw, "prune"),
        finetune=_config(FinetuneConfig, raw, "finetune") if "finetune" in raw else None,
        distil=_distil(raw),
        passes=_passes(raw),
        export=_export_configs(raw),
        bench=_config(BenchConfig, raw, "bench"),
        val=_config(ValConfig, raw, "val"),
    )


def _passes(raw: Mapping[str, Any]) -> int:
    passes = raw.get(PASSES, 1)
    if not isinstance(passes, int) or isinstance(passes, bool) or not 1 <= passes <= MOST_PASSES:
        raise UsageError(f"passes is {brief(passes)}", wanted=f"a whole number, 1 to {MOST_PASSES}")
    if passes > 1 and "finetune" not in raw:
        raise UsageError(f"{passes} passes without fine-tuning between them", wanted="a section [finetune]")
    return passes


def _distil(raw: Mapping[str, Any]) -> str:
    asked = raw.get("finetune", {}).get("distil", False)
    if not (isinstance(asked, bool) or asked == "both"):
        raise UsageError(f"finetune.distil is {brief(asked)}", wanted='true, false or "both"')
    return "both" if asked == "both" else "yes" if asked else "no"


def _path(raw: Mapping[str, Any], key: str, recipe: Path) -> Path | None:
    if key not in raw:
        return None
    text: str = os.path.expandvars(raw[key])
    if "${" in text:
        name = text.split("${", 1)[1].split("}", 1)[0]
        raise UsageError(f"{key} needs the environment variable {name}", do=f"set {name}, or pass --{key}")
    return Path(recipe.parent, text)


def _layered(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    fields = {f.name for f in dataclasses.fields(SECTIONS[name])}
    shared = {key: raw[key] for key in SHARED if key in raw and key in fields}
    if name == "export" and "imgsz" in shared:
        shared["imgsz"] = (shared["imgsz"], shared["imgsz"])
    return {**shared, **raw.get(name, {})}


def _config(kind: type[Config], raw: Mapping[str, Any], name: str) -> Config:
    settings = {k: v for k, v in _layered(raw, name).items() if k not in EXTRA_KEYS.get(name, ())}
    return build(kind, settings, where=f"{name}.")


def _export_configs(raw: Mapping[str, Any]) -> tuple[ExportConfig, ...]:
    first = _config(ExportConfig, raw, "export")
    precisions = raw.get("export", {}).get("precisions", [first.precision])
    if not isinstance(precisions, list) or not precisions or not all(isinstance(one, str) for one in precisions):
        raise UsageError(f"export.precisions is {brief(precisions)}", wanted='a list such as ["fp32", "fp16"]')
    if len(set(precisions)) < len(precisions):
        raise UsageError("export.precisions names one twice", wanted="each once")
    return tuple(dataclasses.replace(first, precision=one) for one in precisions)

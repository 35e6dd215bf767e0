"""Run a recipe stage by stage, going on where an earlier run stopped and redoing what a changed setting touches."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._alone import LOCK, alone_at
from slimdeploy._leftovers import sweep
from slimdeploy._needs import require
from slimdeploy.configs import FIGURES, ExportConfig, LatencyConfig, PruneConfig, share_of_pass
from slimdeploy.errors import OutputExists, UsageError
from slimdeploy.lineage import (
    RECIPE_FILE,
    RUN_FILE,
    Input,
    config_dict,
    file_input,
    fingerprint,
    finish_resumable,
    partial_of,
    read_run,
    with_defaults,
    write_json,
)
from slimdeploy.outputs import whole_folder
from slimdeploy.recipes import Recipe
from slimdeploy.records import Report
from slimdeploy.stages._training import LOCK_TIMEOUT_S, TAUGHT, TUNED, unfinished_fingerprint
from slimdeploy.targets import alignment_for, load_target

if TYPE_CHECKING:
    from slimdeploy.stages.decide import Means

log = logging.getLogger("slimdeploy.run")
PREVIOUS = "previous"  # outcomes of earlier settings; one comes back when its settings do
REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage with everything that its outcome depends on.

    Attributes:
        folder: where it goes below the recipe's folder, such as `export/dense`.
        stage: the stage's name in run.json.
        config: the stage's config.
        inputs: what it reads, by its role.
        make: makes the folder that it is given.
    """

    folder: str
    stage: str
    config: Any
    inputs: Mapping[str, Input]
    make: Callable[[Path], object]


def run_recipe(recipe: Recipe, out: Path, *, trust: bool = False) -> Report:
    """Run every stage that is not whole already and write the report.

    Args:
        recipe: what to do.
        out: the recipe's folder: new, empty, or of an earlier run.
        trust: open checkpoints even if they hold unknown objects.

    Returns:
        The report; its forms lie in `out/report`.

    Raises:
        MissingDependency: the extra `train` is not installed.
        OutputExists: `out` holds something else.
        SlimdeployError: whatever stopped a stage; earlier stages stay whole.
    """
    require("train")
    _require_recipes(out)
    with alone_at(out / LOCK, wait_s=LOCK_TIMEOUT_S, busy=lambda: _busy(out)):
        write_json(out / RECIPE_FILE, {"schema": 1, **config_dict(recipe)})
        way = Way(recipe, lambda step: ensure(step, out), trust=trust)
        models = way.checkpoints()
        exports = way.exports(models)
        way.bench(exports)
        return _write_report(out)


def _busy(out: Path) -> UsageError:
    return UsageError(
        f"another process runs a recipe in {out} now", wanted="a single one at a time",
        do="wait until it ends, or name another folder with --out",
    )  # fmt: skip


def _require_recipes(out: Path) -> None:
    """Raise OutputExists if a folder holds anything else than a recipe's outcome."""
    sweep(out)
    held = [path.name for path in out.iterdir()] if out.is_dir() else []
    if (out.exists() and not out.is_dir()) or (set(held) - {LOCK} and RECIPE_FILE not in held):
        raise OutputExists(f"{out} exists and is no recipe's folder", do="name another with --out")


def _write_report(out: Path) -> Report:
    from slimdeploy.report.build import report_from
    from slimdeploy.report.write import write_report

    report = report_from([out])
    with whole_folder(out / REPORT, replace=True) as folder:
        write_report(report, folder)
    return report


class Way:
    """The stages of one recipe in their order.

    Args:
        recipe: what to do.
        keep: gives the folder of a step, made now unless it is whole already.
        trust: open checkpoints even if they hold unknown objects.
    """

    def __init__(self, recipe: Recipe, keep: Callable[[Step], Path], *, trust: bool) -> None:
        from slimdeploy.data.dataset import read_dataset

        self.recipe, self.keep, self.trust = recipe, keep, trust
        self.target = load_target(recipe.target)
        self.dataset = read_dataset(recipe.data)
        self.data = self.dataset.as_input()

    def checkpoints(self) -> dict[str, Path]:
        """Make the dense, sparse, pruned and tuned checkpoints; return them by name, in order."""
        dense = self.dense()
        models = {"dense": dense}
        for number in range(1, self.recipe.passes + 1):
            suffix = f"-{number}" if self.recipe.passes > 1 else ""
            found = self._pass(list(models.values())[-1], dense, f"pass{suffix}/" if suffix else "")
            models |= {f"{name}{suffix}": path for name, path in found.items()}
        return models

    def _pass(self, start: Path, dense: Path, place: str) -> dict[str, Path]:
        """Sparsify, prune and fine-tune once, in folders below `place`; return what was made, by name."""
        models = {}
        if self.recipe.sparsify:
            models["sparse"] = self._sparsify(start, place)
        models["pruned"] = self._prune(models.get("sparse", start), place)
        if self.recipe.finetune:
            if self.recipe.distil != "yes":
                models[TUNED] = self._finetune(models["pruned"], None, f"{place}finetune")
            if self.recipe.distil != "no":
                both = self.recipe.distil == "both"
                name, folder = (TAUGHT, "finetune-taught") if both else (TUNED, "finetune")
                models[name] = self._finetune(models["pruned"], dense, f"{place}{folder}")
        return models

    def dense(self) -> Path:
        """Return the dense checkpoint, trained where the recipe says so."""
        return self._train() if self.recipe.train else self._given()

    def _given(self) -> Path:
        if self.recipe.weights is None or not self.recipe.weights.is_file():
            raise UsageError(f"no checkpoint at {self.recipe.weights}", wanted="the recipe's weights")
        return self.recipe.weights

    def _train(self) -> Path:
        from slimdeploy.stages.train import OUTPUT, train

        config = self.recipe.train
        assert config is not None
        inputs = {"data": self.data}
        step = Step(
            folder="train", stage="train", config=config, inputs=inputs,
            make=lambda out: train(self.recipe.data, config, out),
        )  # fmt: skip
        return self.keep(step) / OUTPUT

    def _sparsify(self, dense: Path, place: str) -> Path:
        from slimdeploy.stages.sparsify import OUTPUT, sparsify

        config = self.recipe.sparsify
        assert config is not None
        inputs = {"weights": file_input(dense), "data": self.data}
        step = Step(
            folder=f"{place}sparsify", stage="sparsify", config=config, inputs=inputs,
            make=lambda out: sparsify(dense, self.recipe.data, config, out, trust=self.trust),
        )  # fmt: skip
        return self.keep(step) / OUTPUT

    def _prune(self, weights: Path, place: str) -> Path:
        from slimdeploy.stages.prune import OUTPUT, prune

        precisions = [config.precision for config in self.recipe.export]
        alignment = max(self.recipe.prune.alignment, alignment_for(self.target, precisions))
        config = dataclasses.replace(
            share_of_pass(self.recipe.prune, self.recipe.passes), alignment=alignment, precision=precisions[0]
        )
        means = self._means(weights, config, place)
        inputs = {"weights": file_input(weights), **means.inputs()}
        step = Step(
            folder=f"{place}prune", stage="prune", config=config, inputs=inputs,
            make=lambda out: prune(weights, config, out, trust=self.trust, means=means),
        )  # fmt: skip
        return self.keep(step) / OUTPUT

    def _means(self, weights: Path, config: PruneConfig, place: str) -> Means:
        """Return what a plan is made with; for a latency on a target that runs here, a table is measured first."""
        from slimdeploy.stages._built import runs_here
        from slimdeploy.stages.decide import Means
        from slimdeploy.stages.latency import TABLE, latency_folder

        if config.budget[0] not in FIGURES:
            return Means(data=self.recipe.data)
        if not runs_here(self.target):
            return Means(target=self.target, data=self.recipe.data)
        measuring = LatencyConfig(imgsz=config.imgsz, precision=config.precision, alignment=config.alignment)
        step = Step(
            folder=f"{place}latency", stage="latency", config=measuring, inputs={"weights": file_input(weights)},
            make=lambda out: latency_folder(weights, self.target, measuring, out, trust=self.trust),
        )  # fmt: skip
        return Means(target=self.target, table=self.keep(step) / TABLE, data=self.recipe.data)

    def _finetune(self, pruned: Path, teacher: Path | None, folder: str) -> Path:
        from slimdeploy.stages.finetune import OUTPUT, finetune

        config = self.recipe.finetune
        assert config is not None
        inputs = {"weights": file_input(pruned), "data": self.data}
        if teacher:
            inputs["teacher"] = file_input(teacher)
        step = Step(
            folder=folder, stage="finetune", config=config, inputs=inputs,
            make=lambda out: finetune(pruned, self.recipe.data, config, out, teacher=teacher, trust=self.trust),
        )  # fmt: skip
        return self.keep(step) / OUTPUT

    def exports(self, models: Mapping[str, Path]) -> dict[str, Path]:
        """Export each model at the first precision and the last model at every other; return bundles by name."""
        first, *others = self.recipe.export
        bundles = {name: self._export(name, weights, first) for name, weights in models.items()}
        name, weights = list(models.items())[-1]
        for config in others:
            label = f"{name}-{config.precision}"
            bundles[label] = self._export(label, weights, config)
        return bundles

    def _export(self, label: str, weights: Path, config: ExportConfig) -> Path:
        from slimdeploy.stages.export import export, export_inputs

        inputs = export_inputs(weights, self.target, self.dataset)
        step = Step(
            folder=f"export/{label}", stage="export", config=config, inputs=inputs,
            make=lambda out: export(
                weights, self.target, config, out, data=self.recipe.data, trust=self.trust
            ),
        )  # fmt: skip
        return self.keep(step)

    def bench(self, bundles: Mapping[str, Path]) -> Path:
        """Time and score every export."""
        from slimdeploy.stages.bench import bench, bench_inputs, find_models

        models = [(label, find_models([folder])[0][1]) for label, folder in bundles.items()]
        config = dataclasses.replace(self.recipe.bench, val=self.recipe.val)
        step = Step(
            folder="bench", stage="bench", config=config, inputs=bench_inputs(models, self.data),
            make=lambda out: bench(models, config, out, data=self.recipe.data, trust=self.trust),
        )  # fmt: skip
        return self.keep(step)


def ensure(step: Step, root: Path) -> Path:
    """Return the step's folder below `root`, made now unless it is whole already.

    An outcome of other settings is set aside, and taken back when its settings come back.
    """
    folder = root / step.folder
    finish_resumable(folder)
    if _is_whole(folder, step):
        log.info("%s: whole already", step.folder)
        return folder
    if folder.exists():
        _set_aside(folder, root / PREVIOUS / step.folder)
    earlier = _find(root / PREVIOUS / step.folder, step)
    if earlier is not None:
        log.info("%s: taken back from an earlier run with these settings", step.folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        earlier.rename(folder)
        return folder
    log.info("%s: at work", step.folder)
    _drop_unfinished(folder, step)
    step.make(folder)
    return folder


def _drop_unfinished(folder: Path, step: Step) -> None:
    """Remove an unfinished training of other settings; one of the same settings goes on."""
    try:
        began = unfinished_fingerprint(folder)
    except UsageError as error:  # nobody could go on with it
        began = str(error)
    if began and began != fingerprint(step.stage, step.config, step.inputs):
        log.info("%s: an unfinished training with other settings is dropped", step.folder)
        shutil.rmtree(partial_of(folder))


def _is_whole(folder: Path, step: Step) -> bool:
    if not (folder / RUN_FILE).exists():
        return False
    record = read_run(folder)
    read = {role: one.get("sha256") for role, one in record.get("inputs", {}).items()}
    same_inputs = all(read.get(role) == one.sha256 for role, one in step.inputs.items())
    same_config = with_defaults(type(step.config), record["config"]) == config_dict(step.config)
    return bool(record["stage"] == step.stage and same_config and same_inputs)


def _set_aside(folder: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    key = read_run(folder)["fingerprint"][:12] if (folder / RUN_FILE).exists() else "damaged"
    if (place / key).exists():
        shutil.rmtree(place / key)
    folder.rename(place / key)


def _find(place: Path, step: Step) -> Path | None:
    candidates = sorted(place.iterdir()) if place.is_dir() else []
    return next((folder for folder in candidates if _is_whole(folder, step)), None)

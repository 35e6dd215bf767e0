"""Train a pruned network in its shape until its accuracy is back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy._needs import needs, require
from slimdeploy.configs import FinetuneConfig
from slimdeploy.errors import CheckpointError, UsageError
from slimdeploy.lineage import WORK, file_input
from slimdeploy.stages._training import Request, keep_weights, refuse_complete, resume, training_run

if TYPE_CHECKING:
    from slimdeploy.records import Checkpoint

NAME = "finetune"
OUTPUT = "tuned.pt"


def finetune(
    weights: Path,
    data: Path,
    config: FinetuneConfig,
    out: Path,
    *,
    teacher: Path | None = None,
    trust: bool = False,
) -> Path:
    """Fine-tune a network in its present shape and write `tuned.pt`, the best epoch.

    A training that was stopped goes on where it was, when it is called again with the same settings.

    Args:
        weights: the pruned checkpoint.
        data: the data set's YAML.
        config: how to train; with `scratch`, from new weights.
        out: the folder to make.
        teacher: a dense checkpoint to distil from, with ultralytics' own distillation.
        trust: open checkpoints even if they hold unknown objects.

    Returns:
        The path of `tuned.pt`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged, unsafe or no YOLO, or the teacher has other classes.
        DataError: the data set is missing, empty, mislabelled or has other classes.
        OutputExists: `out` is there already.
        StageFailed: training broke down.
        UsageError: there is a teacher, and new weights were asked for: a control learns from the data alone.
    """
    from slimdeploy.data.dataset import read_dataset

    refuse_complete(out)
    require("train")
    if config.scratch and teacher is not None:
        raise UsageError("both new weights and a teacher", wanted="--scratch or --teacher")
    dataset = read_dataset(data)
    dataset.require_trainable()
    with needs("train"):  # seconds of imports, for which nobody waits who named the wrong file
        from slimdeploy.yolo import checkpoint, training
        from slimdeploy.yolo.teacher import Teacher
    module, known = checkpoint.load(weights, trust=trust)
    dataset.require_classes(known.classes)
    inputs = {"weights": file_input(weights), "data": dataset.as_input()}
    paths = {"weights": weights, "data": data}
    if teacher is not None:
        _require_kin(teacher, checkpoint.load(teacher, trust=trust)[1], known)
        inputs["teacher"], paths["teacher"] = file_input(teacher), teacher
    taught_by = None if teacher is None else Teacher(path=teacher, trust=trust)
    with training_run(Request(stage=NAME, config=config, inputs=inputs, paths=paths, out=out)) as run:
        start = training.with_new_weights(module, seed=config.seed) if config.scratch else module
        trained = training.train(start, dataset, config, run.folder / WORK, teacher=taught_by)
        keep_weights(trained, run, name=OUTPUT, which="best")
    return out / OUTPUT


def _require_kin(teacher: Path, taught: Checkpoint, known: Checkpoint) -> None:
    from slimdeploy.data.dataset import class_differences

    if taught.classes != known.classes:
        raise CheckpointError(
            f"the teacher {teacher} has other classes: {class_differences(taught.classes, known.classes)}",
            wanted="the network's classes, in its order",
        )
    if taught.stride != known.stride:
        raise CheckpointError(f"the teacher {teacher} has stride {taught.stride}", wanted=f"stride {known.stride}")


def resume_finetune(folder: Path, *, trust: bool = False) -> Path:
    """Go on with a fine-tuning that was stopped; returns the path of `tuned.pt`.

    Raises:
        UsageError: there is no unfinished one in `folder`, or it was begun with other versions.
    """

    def start(*, paths: Mapping[str, Path], config: FinetuneConfig, out: Path) -> Path:
        return finetune(paths["weights"], paths["data"], config, out, teacher=paths.get("teacher"), trust=trust)

    return resume(folder, NAME, FinetuneConfig, start)

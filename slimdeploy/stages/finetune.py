"""Train a pruned network in its shape until its accuracy is back."""

from __future__ import annotations

from pathlib import Path

from slimdeploy._needs import needs
from slimdeploy.configs import FinetuneConfig
from slimdeploy.errors import CheckpointError
from slimdeploy.lineage import file_input, stage_run
from slimdeploy.stages._training import keep_checkpoint

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

    Args:
        weights: the pruned checkpoint.
        data: the data set's YAML.
        config: how to train.
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
    """
    with needs("train"):
        from slimdeploy.data.dataset import read_dataset
        from slimdeploy.yolo import checkpoint, trainers
    module, known = checkpoint.load(weights, trust=trust)
    dataset = read_dataset(data)
    dataset.require_classes(known.classes)
    inputs = {"weights": file_input(weights), "data": dataset.as_input()}
    if teacher is not None:
        _, taught = checkpoint.load(teacher, trust=trust)
        if (taught.classes, taught.stride) != (known.classes, known.stride):
            raise CheckpointError(
                f"the teacher {teacher} has classes {list(taught.classes)} and stride {taught.stride}",
                wanted=f"classes {list(known.classes)} and stride {known.stride}",
            )
        inputs["teacher"] = file_input(teacher)
    with stage_run("finetune", config=config, inputs=inputs, out=out) as run:
        trained = trainers.train(module, data, config, run.folder, teacher=teacher)
        keep_checkpoint(trained, run, name=OUTPUT, which="best")
    return out / OUTPUT

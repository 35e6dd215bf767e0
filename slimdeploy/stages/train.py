"""Train a dense network from new weights, where there is none to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slimdeploy._needs import needs, require
from slimdeploy.configs import DenseConfig
from slimdeploy.lineage import WORK
from slimdeploy.stages._training import Request, keep_weights, refuse_complete, resume, training_run

NAME = "train"
OUTPUT = "dense.pt"


def train(data: Path, config: DenseConfig, out: Path) -> Path:
    """Train a stock YOLOv8 from new weights and write `dense.pt`.

    A training that was stopped lies in `out` with `.partial` behind its name; called again with the same settings, it
    goes on at the last whole epoch.

    Args:
        data: the data set's YAML.
        config: the architecture, and how to train.
        out: the folder to make.

    Returns:
        The path of `dense.pt`.

    Raises:
        CheckpointError: ultralytics knows no such architecture.
        DataError: the data set is missing, empty or mislabelled.
        OutputExists: `out` is there already.
        StageFailed: training broke down.
    """
    from slimdeploy.data.dataset import read_dataset

    refuse_complete(out)
    require("train")
    dataset = read_dataset(data)
    dataset.require_trainable()
    with needs("train"):  # seconds of imports, for which nobody waits who named the wrong file
        from slimdeploy.yolo import training
    request = Request(
        stage=NAME, config=config, inputs={"data": dataset.as_input()}, paths={"data": data}, out=out
    )  # fmt: skip
    with training_run(request) as run:
        module = training.new_network(config.architecture, dataset.classes, seed=config.seed)
        trained = training.train(module, dataset, config, run.folder / WORK)
        keep_weights(trained, run, name=OUTPUT, which="best")
    return out / OUTPUT


def resume_train(folder: Path) -> Path:
    """Go on with a training that was stopped; returns the path of `dense.pt`.

    Raises:
        UsageError: there is no unfinished one in `folder`, or it was begun with other versions.
    """

    def start(*, paths: Mapping[str, Path], config: DenseConfig, out: Path) -> Path:
        return train(paths["data"], config, out)

    return resume(folder, NAME, DenseConfig, start)

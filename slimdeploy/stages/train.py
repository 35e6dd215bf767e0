"""Train a dense network from new weights, where there is none to start from."""

from __future__ import annotations

from pathlib import Path

from slimdeploy._needs import needs
from slimdeploy.configs import DenseConfig
from slimdeploy.lineage import stage_run
from slimdeploy.stages._training import keep_checkpoint

OUTPUT = "dense.pt"


def train(data: Path, config: DenseConfig, out: Path) -> Path:
    """Train a stock YOLOv8 from new weights and write `dense.pt`.

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
    with needs("train"):
        from slimdeploy.data.dataset import read_dataset
        from slimdeploy.yolo import trainers
    dataset = read_dataset(data)
    with stage_run("train", config=config, inputs={"data": dataset.as_input()}, out=out) as run:
        module = trainers.new_network(config.architecture, dataset.classes, seed=config.seed)
        trained = trainers.train(module, data, config, run.folder)
        keep_checkpoint(trained, run, name=OUTPUT, which="best")
    return out / OUTPUT

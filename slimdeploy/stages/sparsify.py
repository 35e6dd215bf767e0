"""Train with an L1 penalty on BatchNorm scales, so that channels tell which of them can go."""

from __future__ import annotations

from pathlib import Path

from slimdeploy._needs import needs
from slimdeploy.configs import SparsifyConfig
from slimdeploy.lineage import file_input, stage_run
from slimdeploy.stages._training import keep_checkpoint

OUTPUT = "sparse.pt"


def sparsify(weights: Path, data: Path, config: SparsifyConfig, out: Path, *, trust: bool = False) -> Path:
    """Train under the sparsity penalty and write `sparse.pt`, the last epoch.

    The last epoch is kept and not the best one, since the best is often an early one, before the scales moved.

    Args:
        weights: the dense checkpoint.
        data: the data set's YAML.
        config: how to train, and how strong the penalty is.
        out: the folder to make.
        trust: open `weights` even if it holds unknown objects.

    Returns:
        The path of `sparse.pt`.

    Raises:
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        DataError: the data set is missing, empty, mislabelled or has other classes.
        OutputExists: `out` is there already.
        StageFailed: training broke down.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    with needs("train"):
        from slimdeploy.data.dataset import read_dataset
        from slimdeploy.yolo import checkpoint, penalty, trainers
    module, known = checkpoint.load(weights, trust=trust)
    dataset = read_dataset(data)
    dataset.require_classes(known.classes)
    with stage_run(
        "sparsify", config=config, inputs={"weights": file_input(weights), "data": dataset.as_input()}, out=out
    ) as run:
        run.results["scales_before"] = penalty.scale_shares(module)
        run.results["scale_edges"] = list(penalty.HISTOGRAM_EDGES)
        trained = trainers.train(
            module, data, config, run.folder, penalty=penalty.make_penalty(config.penalty, config.sr)
        )
        keep_checkpoint(trained, run, name=OUTPUT, which="last")
    return out / OUTPUT

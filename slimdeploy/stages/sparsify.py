"""Train with a penalty on BatchNorm scales, so that channels tell which of them can go."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from slimdeploy._needs import needs, require
from slimdeploy.configs import MOMENTUM, SparsifyConfig, strength_at
from slimdeploy.errors import UsageError
from slimdeploy.lineage import WORK, file_input
from slimdeploy.stages._training import Request, keep_weights, refuse_complete, resume, training_run

NAME = "sparsify"
OUTPUT = "sparse.pt"

log = logging.getLogger("slimdeploy.train")


def sparsify(weights: Path, data: Path, config: SparsifyConfig, out: Path, *, trust: bool = False) -> Path:
    """Train under the sparsity penalty and write `sparse.pt`, the last epoch.

    The last epoch is kept and not the best one, since the best is often an early one, before the scales moved. A
    training that was stopped goes on where it was, when it is called again with the same settings.

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
        UsageError: the penalty left a layer too few live channels. The last epoch before is kept as `sparse.pt` in
            the unfinished folder.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    from slimdeploy.data.dataset import read_dataset

    refuse_complete(out)
    require("train")
    dataset = read_dataset(data)
    dataset.require_trainable()
    with needs("train"):  # seconds of imports, for which nobody waits who named the wrong file
        from slimdeploy.yolo import checkpoint, gammas, progress, training
    module, known = checkpoint.load(weights, trust=trust)
    dataset.require_classes(known.classes)
    inputs = {"weights": file_input(weights), "data": dataset.as_input()}
    paths = {"weights": weights, "data": data}
    with training_run(Request(stage=NAME, config=config, inputs=inputs, paths=paths, out=out)) as run:
        work = run.folder / WORK
        run.results["scales_before"] = gammas.scale_shares(module)
        run.results["scale_edges"] = list(gammas.HISTOGRAM_EDGES)
        run.results["reach"] = _tell_reach(config, len(dataset.images("train")))
        try:
            trained = training.train(module, dataset, config, work, keep="last")
        except UsageError:
            if progress.read_state(work) is not None:
                trained = training.trained(module, config, work, keep="last")
                keep_weights(trained, run, name=OUTPUT, which="last")
            raise
        keep_weights(trained, run, name=OUTPUT, which="last")
        run.results["live_channels"] = sum(live for live, _ in gammas.live_channels(trained.network).values())
    return out / OUTPUT


def _tell_reach(config: SparsifyConfig, images: int) -> float | None:
    """Return how far the penalty can move a scale over the whole training, and say it; None where that is unknown.

    SGD's momentum adds up what the subgradient form puts into it; an adaptive optimizer divides it by what it saw.
    """
    if config.penalty == "subgradient" and "SGD" not in config.optimizer:
        return None
    steps = math.ceil(images / (config.batch * config.accumulate))
    moved = 0.0
    for epoch in range(config.epochs):
        share = (1 - math.cos(math.pi * epoch / config.epochs)) / 2  # ultralytics' cosine, from 1 to lrf
        rate = config.lr0 * (1 + share * (config.lrf - 1))
        moved += steps * rate * strength_at({"sr": config.sr, "schedule": config.schedule}, epoch, config.epochs)
    moved /= 1 - MOMENTUM if config.penalty == "subgradient" else 1
    log.info("sr %g can move a scale by %.2f in these %d epochs; most start near 1", config.sr, moved, config.epochs)
    return moved


def resume_sparsify(folder: Path, *, trust: bool = False) -> Path:
    """Go on with a sparsity training that was stopped; returns the path of `sparse.pt`.

    Raises:
        UsageError: there is no unfinished one in `folder`, or it was begun with other versions.
    """

    def start(*, paths: Mapping[str, Path], config: SparsifyConfig, out: Path) -> Path:
        return sparsify(paths["weights"], paths["data"], config, out, trust=trust)

    return resume(folder, NAME, SparsifyConfig, start)

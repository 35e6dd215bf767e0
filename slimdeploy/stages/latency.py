"""Measure a latency table: every convolution of a network on its own, and a few whole networks beside their sums."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from slimdeploy._alone import LOCK, alone_at
from slimdeploy._cores import usable_cores
from slimdeploy._leftovers import beside, sweep
from slimdeploy._needs import require
from slimdeploy._rename import rename_new
from slimdeploy.bench.stats import SIGMAS_PER_MAD, mad
from slimdeploy.channels import Coupling
from slimdeploy.configs import LatencyConfig
from slimdeploy.errors import TargetError, UsageError
from slimdeploy.latency.measure import LayerTimes, time_layers
from slimdeploy.latency.shapes import changeable, count, to_measure
from slimdeploy.latency.table import LatencyTable, WholeTime, write_table
from slimdeploy.lineage import file_input, stage_run
from slimdeploy.outputs import refuse_existing, scratch_folder
from slimdeploy.records import Target
from slimdeploy.stages._built import build, coupling_of, cut_copy, runs_here
from slimdeploy.stages._timers import Board, Timer, timer_here, timer_on_board
from slimdeploy.stages.widths import Widths, equal_shares, random_widths, units_of

if TYPE_CHECKING:
    from torch import nn

TABLE = "table.json"
SAMPLES = ".samples.jsonl"  # in place of the table's .json: what a board measured, a line a layer
CLASSES = tuple(f"class {i}" for i in range(80))  # of a network without a checkpoint, as many as COCO has
EVEN = (0.0, 0.5, 0.75)  # shares removed from every group of the first whole networks; the others are random

log = logging.getLogger("slimdeploy.latency")


def latency(
    weights: Path | None,
    target: Target,
    config: LatencyConfig,
    out: Path,
    *,
    trust: bool = False,
    board: Board | None = None,
) -> Path:
    """Measure a latency table and write it to the file `out`.

    Interrupted, it leaves what it measured beside `out`, and the same command goes on from there. What is measured on
    a board leaves every layer's raw samples beside `out`, too.

    Args:
        weights: whose convolutions to measure; None takes `config.network` with new weights.
        target: whose runtime to measure with.
        config: input size, precision, threads, and how long each layer is timed.
        out: the .json file to write.
        trust: open `weights` even if it holds unknown objects.
        board: what to measure on; None measures on this machine.

    Returns:
        `out`.

    Raises:
        TargetError: the target's runtime does not run on this machine, and no board was named.
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        UsageError: the network is none whose channels can be coupled.
        OutputExists: `out` is there already.
        DeviceError: a worker process died or gave no answer in time; or the board is another one, or failed.
    """
    require("train")
    if board is None:
        require_here(target)
    if os.path.isdir(out):  # noqa: PTH112 - Path's raises where the name is too long
        refuse_existing(out)
    samples = out.with_suffix(SAMPLES) if board is not None else None
    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent}", wanted="an existing folder for the table")
    with alone_at(beside(out, LOCK), wait_s=0.0, busy=lambda: _busy(out)):
        _finish(out, samples)
        for path in filter(None, (out, samples)):
            refuse_existing(path)
        sweep(out.parent)
        write_table(_measure(weights, target, config, out, trust=trust, board=board), out)
        _finish(out, samples)
    return out


def _busy(out: Path) -> UsageError:
    return UsageError(
        f"another process measures {out} now", wanted="a single one at a time",
        do="wait until it ends, or name another file with --out",
    )  # fmt: skip


def _progress_of(out: Path) -> Path:
    return beside(out, ".progress")


def _finish(out: Path, samples: Path | None) -> None:
    """Once a table is complete, remove what it could be gone on from, or keep it as the raw samples of a board."""
    progress = _progress_of(out)
    if not (out.is_file() and progress.is_file()):
        return
    if samples is None:
        progress.unlink()
    else:
        rename_new(progress, samples)


def _measure(
    weights: Path | None, target: Target, config: LatencyConfig, out: Path, *, trust: bool, board: Board | None
) -> LatencyTable:
    from slimdeploy.yolo import checkpoint, training

    if weights is None:
        module = training.new_network(config.network, CLASSES, seed=config.seed)
    else:
        module, _ = checkpoint.load(weights, trust=trust)
    coupling = coupling_of(module, config.imgsz)
    wanted = to_measure(coupling, config.alignment)
    log.info("latency: %d shapes of %d convolutions", count(wanted), len(changeable(coupling)))
    with _timer(target, config, board) as timer:
        times = time_layers(wanted, config, timer.layer, where=timer.where, progress=_progress_of(out))
        table = _table(times, target, config, weights, timer)
        return _with_wholes(module, coupling, table, target, config, timer)


def _timer(target: Target, config: LatencyConfig, board: Board | None) -> AbstractContextManager[Timer]:
    return timer_here(target.runtime, config) if board is None else timer_on_board(board, target, config)


def latency_folder(weights: Path, target: Target, config: LatencyConfig, out: Path, *, trust: bool = False) -> Path:
    """Measure a latency table into a new folder `out`, as a recipe's stage; see `latency`."""
    with stage_run("latency", config=config, inputs={"weights": file_input(weights)}, out=out) as run:
        latency(weights, target, config, run.folder / TABLE, trust=trust)
    return out / TABLE


def require_here(target: Target) -> None:
    """Raise TargetError unless this machine runs a target's runtime."""
    if not runs_here(target):
        raise TargetError(
            f"the target {target.name} runs {target.runtime}, which this machine cannot time",
            wanted="a target that runs onnxruntime or openvino",
            do="measure on the board: --device ssh://user@board; or plan by the model of it: "
            f"slimdeploy prune --target {target.name} without --table",
        )


def _table(
    times: LayerTimes, target: Target, config: LatencyConfig, weights: Path | None, timer: Timer
) -> LatencyTable:
    return LatencyTable(
        target=target.name,
        backend=times.backend,
        backend_version=times.version,
        precision=config.precision,
        threads=times.threads or config.threads or usable_cores(),
        imgsz=(config.imgsz, config.imgsz),
        alignment=config.alignment,
        network=weights.name if weights else config.network,
        layers=times.layers,
        wholes=(),
        environment=timer.environment,
        device=timer.device,
        simulated=timer.simulated,
    )


def _with_wholes(
    module: nn.Module,
    coupling: Coupling,
    table: LatencyTable,
    target: Target,
    config: LatencyConfig,
    timer: Timer,
) -> LatencyTable:
    """Time whole networks of different widths, and note what the table says of each."""
    chosen = whole_widths(coupling, config)
    with scratch_folder() as folder:
        artifacts = []
        for number, widths in enumerate(chosen):
            log.info("latency: building whole network %d of %d", number + 1, len(chosen))
            made = cut_copy(module, coupling, {name: range(width) for name, width in widths.items()})
            name = f"whole{number}"
            artifact = build(made, name, Path(folder), target=target, imgsz=config.imgsz, precision=config.precision)
            artifacts.append((name, artifact))
        measured = timer.wholes(artifacts)
    wholes = tuple(_whole(table, coupling, one, samples_s) for one, samples_s in zip(chosen, measured, strict=True))
    return dataclasses.replace(table, wholes=wholes)


def _whole(table: LatencyTable, coupling: Coupling, widths: Widths, samples_s: Sequence[float]) -> WholeTime:
    return WholeTime(
        layers_ms=layers_ms(table, coupling, widths),
        measured_ms=1e3 * median(samples_s),
        noise_ms=1e3 * SIGMAS_PER_MAD * mad(samples_s),
    )


def whole_widths(coupling: Coupling, config: LatencyConfig) -> list[Widths]:
    """Return the widths of the whole networks that are timed: even ones first, then random ones."""
    units = units_of(coupling.groups, config.alignment)
    even = [coupling.whole(), *(equal_shares(units, share) for share in EVEN[1:])]
    others = [random_widths(units, config.seed + number) for number in range(config.wholes - len(even))]
    return [*even, *others][: config.wholes]


def layers_ms(table: LatencyTable, coupling: Coupling, widths: Widths) -> float:
    """Return what a network's convolutions come to by the table's own times, without what lies between them."""
    shapes = coupling.shapes(widths)
    return sum(table.alone_ms(layer, *shapes[layer.name]) for layer in changeable(coupling))

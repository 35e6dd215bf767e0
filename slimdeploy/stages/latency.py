"""Measure a latency table: every convolution of a network on its own, and a few whole networks beside their sums."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from slimdeploy._cores import usable_cores
from slimdeploy._needs import needs
from slimdeploy.bench.environment import environment
from slimdeploy.bench.measure import measure
from slimdeploy.bench.stats import SIGMAS_PER_MAD, mad
from slimdeploy.channels import Coupling
from slimdeploy.configs import BenchConfig, LatencyConfig
from slimdeploy.errors import TargetError, UsageError
from slimdeploy.latency.measure import LayerTimes, time_layers
from slimdeploy.latency.shapes import changeable, count, to_measure
from slimdeploy.latency.table import LatencyTable, WholeTime, write_table
from slimdeploy.lineage import file_input, refuse_existing, stage_run
from slimdeploy.records import Target
from slimdeploy.stages._built import build, coupling_of, cut_copy, runs_here
from slimdeploy.stages.widths import Widths, equal_shares, random_widths, units_of

if TYPE_CHECKING:
    from torch import nn

TABLE = "table.json"
CLASSES = tuple(f"class {i}" for i in range(80))  # of a network without a checkpoint, as many as COCO has
EVEN = (0.0, 0.5, 0.75)  # shares removed from every group of the first whole networks; the others are random

log = logging.getLogger("slimdeploy.latency")


def latency(weights: Path | None, target: Target, config: LatencyConfig, out: Path, *, trust: bool = False) -> Path:
    """Measure a latency table and write it to the file `out`.

    Interrupted, it leaves what it measured beside `out`, and the same command goes on from there.

    Args:
        weights: whose convolutions to measure; None takes `config.network` with new weights.
        target: whose runtime to measure with.
        config: input size, precision, threads, and how long each layer is timed.
        out: the .json file to write.
        trust: open `weights` even if it holds unknown objects.

    Returns:
        `out`.

    Raises:
        TargetError: the target's runtime does not run on this machine.
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        UsageError: the network is none whose channels can be coupled.
        OutputExists: `out` is there already.
        DeviceError: a worker process died, or gave no answer in time.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, training
    require_here(target)
    refuse_existing(out)
    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent}", wanted="an existing folder for the table")
    if weights is None:
        module = training.new_network(config.network, CLASSES, seed=config.seed)
    else:
        module, _ = checkpoint.load(weights, trust=trust)
    coupling = coupling_of(module, config.imgsz)
    progress = out.with_name(f".{out.name}.progress")
    wanted = to_measure(coupling, config.alignment)
    log.info("latency: %d shapes of %d convolutions", count(wanted), len(changeable(coupling)))
    times = time_layers(wanted, config, backend=target.runtime, progress=progress)
    table = _with_wholes(module, coupling, _table(times, target, config, weights), target, config)
    write_table(table, out)
    progress.unlink()
    return out


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
            do=f"plan by the model of its board: slimdeploy prune --target {target.name} without --table",
        )


def _table(times: LayerTimes, target: Target, config: LatencyConfig, weights: Path | None) -> LatencyTable:
    return LatencyTable(
        target=target.name,
        backend=times.backend,
        backend_version=times.version,
        precision=config.precision,
        threads=config.threads or usable_cores(),
        imgsz=(config.imgsz, config.imgsz),
        alignment=config.alignment,
        network=weights.name if weights else config.network,
        layers=times.layers,
        wholes=(),
        environment=environment(),
    )


def _with_wholes(
    module: nn.Module, coupling: Coupling, table: LatencyTable, target: Target, config: LatencyConfig
) -> LatencyTable:
    """Time whole networks of different widths, in turns, and note what the table says of each."""
    chosen = whole_widths(coupling, config)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = []
        for number, widths in enumerate(chosen):
            log.info("latency: building whole network %d of %d", number + 1, len(chosen))
            made = cut_copy(module, coupling, {name: range(width) for name, width in widths.items()})
            name = f"whole{number}"
            artifact = build(made, name, Path(folder), target=target, imgsz=config.imgsz, precision=config.precision)
            artifacts.append((name, artifact))
        bench = BenchConfig(samples=config.samples, rounds=6, threads=config.threads, timeout_s=config.timeout_s)
        measured = measure(artifacts, bench, backend=table.backend)
    wholes = tuple(
        WholeTime(
            layers_ms=layers_ms(table, coupling, widths),
            measured_ms=1e3 * median(one.samples_s),
            noise_ms=1e3 * SIGMAS_PER_MAD * mad(one.samples_s),
        )
        for widths, one in zip(chosen, measured, strict=True)
    )
    return dataclasses.replace(table, wholes=wholes)


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

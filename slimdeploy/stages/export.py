"""Turn a checkpoint into ONNX, prove that it computes the same, and pack the bundle for a target."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.backends.artifacts import read_artifact, require_stride
from slimdeploy.backends.protocol import INPUT
from slimdeploy.bundle import trtcheck
from slimdeploy.bundle.dropin import Model
from slimdeploy.bundle.dropins import require_possible, write_dropins
from slimdeploy.bundle.labels import require_lines
from slimdeploy.bundle.manifest import Contents, Graph
from slimdeploy.bundle.pack import pack
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.lineage import Input, file_input, stage_run, told, told_of, write_json
from slimdeploy.outputs import refuse_existing
from slimdeploy.records import Artifact, Checkpoint, Target, as_json
from slimdeploy.stages._forms import Form, Graphs, forms_for

if TYPE_CHECKING:
    from torch import nn

    from slimdeploy.data.dataset import Dataset
    from slimdeploy.stages._accuracy_gate import Gate
    from slimdeploy.stages._float16 import KeptFloat
    from slimdeploy.stages._parity import Agreement, Array

log = logging.getLogger("slimdeploy.export")

CALIBRATION = "calibration.json"


def export(
    weights: Path,
    target: Target,
    config: ExportConfig,
    out: Path,
    *,
    data: Path | None = None,
    trust: bool = False,
) -> Path:
    """Export a network to ONNX and pack it: the graph, a golden sample, the board's agent, labels, manifest, licence.

    Before the folder gets its name, every graph is compared with the network on `config.check_images` images, and for
    NVIDIA targets read by NVIDIA's own parser, where the extra `trtcheck` is installed. An int8 bundle also holds a
    float graph, and `calibration.json` with the hash of every image that the ranges were measured on.

    Args:
        weights: the checkpoint, dense or pruned.
        target: what the bundle is for; it sets the opset and the graphs.
        config: precision, input size, calibration and tolerances.
        out: the folder to make.
        data: YAML of a data set to check on and to calibrate int8 on; without it scenes are rendered.
        trust: open `weights` even if it holds unknown objects.

    Returns:
        `out`.

    Raises:
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        DataError: the data set is missing, empty, has other classes, or has no training images for int8.
        GateError: the graph differs from the network by more than the config allows, int8 loses more accuracy than
            that, or NVIDIA's parser refuses a graph.
        OutputExists: `out` is there already.
        StageFailed: the network cannot be exported.
        UsageError: the target lacks the precision or the opset, the size is no multiple of the stride, the head is none
            that is known, or a class name does not fit a line.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, heads
    with needs("onnx"):
        from slimdeploy.bundle.golden import write_golden
        from slimdeploy.stages import _parity
    require_precision(target, config.precision)
    forms = forms_for(target, config)
    refuse_existing(out)
    _require_data(config, data)
    module, known = checkpoint.load(weights, trust=trust)
    require_lines(known.classes, str(weights))
    require_stride(config.imgsz, known.stride)
    _require_scorable(config, known)
    heads.keep_inferring_branch(module)
    require_possible(config.dropins, _for_dropins(forms[-1], module, known, config, out))
    dataset = _read(data, known)
    images, source = _parity.check_inputs(dataset, config)
    inputs = export_inputs(weights, target, dataset)
    with stage_run("export", config=config, inputs=inputs, out=out) as run:
        graphs = Graphs(module, known, config, images)
        calibration, limits = _calibrate(graphs, forms, dataset, run.folder)
        gate = _gate(graphs, forms, limits, target, dataset)
        made = [_make(form, graphs, limits, gate.keep if gate else (), run.folder, target) for form in forms]
        for one in made:
            _compare(module, known, one, images, config)
        accuracy = gate.record(made, run.folder) if gate else None
        write_dropins(config.dropins, _for_dropins(forms[-1], module, known, config, run.folder), run.folder)
        contents = Contents(
            artifact=made[0].artifact,
            checkpoint=known,
            target=target,
            check=_check_record(made[0].agreement, config, source),
            graphs=tuple(one.as_graph() for one in made),
            calibration=calibration,
            recommendation=_recommend(made, target),
            accuracy=accuracy,
            limits=_limits(config),
            lineage={**told("export", config, inputs), "weights": told_of(weights)},
        )
        write_golden(run.folder, made[0].artifact, images, [one.artifact for one in made[1:]])
        run.results.update(_results(pack(run.folder, contents)))
    return out


@dataclass(slots=True, kw_only=True)
class _Made:
    """A graph that was written, and what was found out about it."""

    form: Form
    artifact: Artifact
    ir_version: int
    kept: tuple[KeptFloat, ...]
    verdict: trtcheck.Verdict
    found: Agreement | None = None

    @property
    def agreement(self) -> Agreement:
        assert self.found is not None
        return self.found

    def as_graph(self) -> Graph:
        return Graph(
            file=self.form.file,
            precision=self.form.precision,
            body=self.form.body,
            opset=self.form.opset,
            ir_version=self.ir_version,
            box_shift_px=self.agreement.box_shift_px,
            score_change=self.agreement.score_change,
            float_nodes=tuple(dataclasses.asdict(one) for one in self.kept),
            parser=self.verdict,
        )


def _require_data(config: ExportConfig, data: Path | None) -> None:
    if config.precision == "int8" and data is None:
        raise UsageError(
            "int8 without a data set",
            wanted="training images, on which the ranges of int8 are measured",
            do="name their YAML with --data",
        )


def _require_scorable(config: ExportConfig, known: Checkpoint) -> None:
    if config.max_drop is not None and known.task != "detect":
        raise UsageError(
            f"a bound on the drop of a network for the task {known.task!r}",
            wanted="a detector, whose boxes can be scored",
            do="leave --max-drop out",
        )


def _calibrate(
    graphs: Graphs, forms: Sequence[Form], dataset: Dataset | None, folder: Path
) -> tuple[dict[str, Any] | None, dict[str, float] | None]:
    """Measure the ranges that int8 needs; return the manifest's record of it and the limits, or None without int8."""
    from slimdeploy.data.calibration import as_record, choose
    from slimdeploy.stages import _parity

    if dataset is None or forms[0].precision != "int8":
        return None, None
    config = graphs.config
    chosen = choose(dataset, config.calibration_images, seed=config.seed)
    log.info("export: calibrating on %d training images", len(chosen.images))
    inputs = _parity.read_batches(chosen.images, config)
    limits = graphs.limits(forms[0].opset, inputs)
    hashes = chosen.hashes()
    record = {"calibrator": config.calibrator, **as_record(chosen, hashes), "file": CALIBRATION}
    write_json(folder / CALIBRATION, {"schema": 1, **record, "hashes": hashes, "limits": limits})
    return record, limits


def _gate(
    graphs: Graphs, forms: Sequence[Form], limits: dict[str, float] | None, target: Target, dataset: Dataset | None
) -> Gate | None:
    """Find which layers must return to float; None where no drop was bounded."""
    from slimdeploy.stages._accuracy_gate import Gate

    if limits is None or dataset is None or graphs.config.max_drop is None:
        return None
    return Gate(graphs, forms[0], limits, dataset, runtime=target.runtime if target.kind == "cpu" else "")


def _make(
    form: Form,
    graphs: Graphs,
    limits: dict[str, float] | None,
    keep: Sequence[KeptFloat],
    folder: Path,
    target: Target,
) -> _Made:
    path = folder / form.file
    ir_version, kept = graphs.write(form, path, limits=limits, keep=keep)
    return _Made(
        form=form,
        artifact=read_artifact(path),
        ir_version=ir_version,
        kept=kept,
        verdict=trtcheck.require_accepted(path, target),
    )


def export_inputs(weights: Path, target: Target, dataset: Dataset | None) -> dict[str, Input]:
    """Return what an export depends on besides its config."""
    told = json.dumps(as_json(target), sort_keys=True)
    inputs = {
        "weights": file_input(weights),
        "target": Input(target.name, hashlib.sha256(told.encode()).hexdigest()),
    }
    return inputs | ({"data": dataset.as_input()} if dataset else {})


def require_precision(target: Target, precision: str) -> None:
    """Raise UsageError if a target gains nothing from a precision; fp32 runs everywhere."""
    if precision != "fp32" and precision not in target.precisions:
        raise UsageError(
            f"the target {target.name} does not gain from {precision}",
            wanted=f"one of {', '.join(dict.fromkeys(('fp32', *target.precisions)))}",
            do="name one of these with --precision, or another target",
        )


def _read(data: Path | None, known: Checkpoint) -> Dataset | None:
    if data is None:
        return None
    from slimdeploy.data.dataset import read_dataset

    dataset = read_dataset(data, check_labels=False)
    dataset.require_classes(known.classes)
    return dataset


def _compare(module: nn.Module, known: Checkpoint, made: _Made, images: list[Array], config: ExportConfig) -> None:
    """Compare a graph with its network: both must give numbers, and what is not int8 must agree."""
    from slimdeploy.backends.registry import backend_for
    from slimdeploy.stages import _parity
    from slimdeploy.yolo import onnx_export

    log.info("export: comparing %s with PyTorch on %d images", made.form.file, config.check_images)
    session = backend_for(made.artifact).open(made.artifact)
    pairs = []
    for batch in _parity.batches(images, config.batch):
        pairs += _parity.per_image(onnx_export.run(module, batch), session.run({INPUT: batch}))
    session.close()
    made.found = _parity.compare(pairs[: len(images)], known)
    made.found.require_finite(made.form.precision)
    if made.form.precision != "int8":
        made.found.require(config, made.form.precision)


def _for_dropins(form: Form, module: nn.Module, known: Checkpoint, config: ExportConfig, folder: Path) -> Model:
    """Return what drop-ins must know of the graph that they run: the bundle's float one."""
    return Model(
        path=folder / form.file,
        name=Path(known.path).stem,
        task=known.task,
        classes=known.classes,
        imgsz=config.imgsz,
        strides=tuple(int(stride) for stride in module.stride),
        batch=config.batch,
        dynamic_batch=config.dynamic_batch,
        precision=form.precision,
    )


def _recommend(made: Sequence[_Made], target: Target) -> dict[str, Any] | None:
    """Measure an int8 graph beside the bundle's float one; a bundle with a single graph needs no advice."""
    from slimdeploy.stages._recommend import recommend

    if len(made) == 1:
        return None
    return recommend([(one.form.file, one.artifact) for one in (made[0], made[-1])], target)


def _limits(config: ExportConfig) -> dict[str, float] | None:
    limits = {"p90_ms": config.max_p90_ms, "power_mw": config.max_power_mw}
    return {name: limit for name, limit in limits.items() if limit} or None


def _check_record(agreement: Agreement, config: ExportConfig, source: str) -> dict[str, Any]:
    return {
        "against": "the network in PyTorch, float32, before NMS",
        "runtime": "ONNX Runtime on the CPU",
        "source": source,
        **{name: value for name, value in dataclasses.asdict(agreement).items() if value is not None},
        "box_tolerance_px": config.box_tolerance_px,
        "score_tolerance": config.score_tolerance,
    }


def _results(manifest: dict[str, Any]) -> dict[str, Any]:
    return {"model": manifest["model"], "check": manifest["check"]}

"""Turn a checkpoint into ONNX, prove that it computes the same, and pack the bundle for a target."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimdeploy._needs import needs
from slimdeploy.backends.artifacts import read_artifact, require_stride
from slimdeploy.backends.protocol import INPUT
from slimdeploy.bundle import trtcheck
from slimdeploy.bundle.manifest import Contents
from slimdeploy.bundle.pack import pack
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.lineage import Input, file_input, refuse_existing, stage_run
from slimdeploy.records import Artifact, Checkpoint, Target, as_json

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from slimdeploy.data.dataset import Dataset
    from slimdeploy.stages._float16 import KeptFloat
    from slimdeploy.stages._parity import Agreement, Array

log = logging.getLogger("slimdeploy.export")

HIGHEST_OPSET = 17  # enough for the graph; ONNX Runtime's CUDA provider runs Resize of later opsets on the CPU


def export(
    weights: Path,
    target: Target,
    config: ExportConfig,
    out: Path,
    *,
    data: Path | None = None,
    trust: bool = False,
) -> Path:
    """Export a network to ONNX and pack it: `model.<precision>.onnx`, manifest.json, labels.txt, LICENSE.

    Before the folder gets its name, the graph is compared with the network on `config.check_images` images, and for
    NVIDIA targets read by NVIDIA's own parser, where the extra `trtcheck` is installed.

    Args:
        weights: the checkpoint, dense or pruned.
        target: what the bundle is for; it sets the opset.
        config: precision, input size and tolerances.
        out: the folder to make.
        data: YAML of a data set to check on; without it scenes are rendered.
        trust: open `weights` even if it holds unknown objects.

    Returns:
        `out`.

    Raises:
        CheckpointError: `weights` is missing, damaged, unsafe or no YOLO.
        DataError: the data set is missing, empty, or has other classes.
        GateError: the graph differs from the network by more than the config allows, or NVIDIA's parser refuses it.
        OutputExists: `out` is there already.
        StageFailed: the network cannot be exported.
        UsageError: the target lacks the precision, the size is no multiple of the stride, or its head is none that is
            known.
    """
    with needs("train"):
        from slimdeploy.yolo import checkpoint, heads
    with needs("onnx"):
        from slimdeploy.stages import _parity
    require_precision(target, config.precision)
    refuse_existing(out)
    module, known = checkpoint.load(weights, trust=trust)
    require_stride(config.imgsz, known.stride)
    heads.keep_inferring_branch(module)
    dataset = _read(data, known)
    images, source = _parity.check_inputs(dataset, config)
    inputs = export_inputs(weights, target, dataset)
    with stage_run("export", config=config, inputs=inputs, out=out) as run:
        path = run.folder / f"model.{config.precision}.onnx"
        model, kept = _write(module, known, path, _opset(target), config, images)
        artifact = read_artifact(path)
        agreement = _compare(module, known, artifact, images, config)
        agreement.require(config)
        contents = Contents(
            artifact=artifact,
            checkpoint=known,
            target=target,
            opset=_opset(target),
            ir_version=model.ir_version,
            check=_check_record(agreement, config, source),
            parser=trtcheck.require_accepted(path, target),
            float_nodes=tuple(dataclasses.asdict(one) for one in kept),
        )
        run.results.update(_results(pack(run.folder, contents)))
    return out


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


def _opset(target: Target) -> int:
    return min(target.opset, HIGHEST_OPSET)


def _read(data: Path | None, known: Checkpoint) -> Dataset | None:
    if data is None:
        return None
    from slimdeploy.data.dataset import read_dataset

    dataset = read_dataset(data, check_labels=False)
    dataset.require_classes(known.classes)
    return dataset


def _write(
    module: nn.Module, known: Checkpoint, path: Path, opset: int, config: ExportConfig, images: list[Array]
) -> tuple[ModelProto, tuple[KeptFloat, ...]]:
    """Write the graph at the config's precision; return it, and the nodes that stay float32 in an fp16 one."""
    from slimdeploy.stages import _float16, _graph, _parity
    from slimdeploy.yolo import onnx_export

    log.info("export: tracing at %dx%d, opset %d", *config.imgsz, opset)
    network = onnx_export.raw_head(module)
    with tempfile.TemporaryDirectory() as folder:
        traced = Path(folder) / "traced.onnx"
        onnx_export.write_graph(network, traced, imgsz=config.imgsz, batch=config.batch, opset=opset)
        model = _graph.simplified(traced, opset=opset)
    kept: tuple[KeptFloat, ...] = ()
    if config.precision == "fp16":
        log.info("export: looking for activations that float16 cannot hold")
        peaks = _graph.activation_peaks(model, _parity.batches(images, config.batch))
        found = (*_float16.overflowing(model, peaks), *_float16.decoding(model))
        kept = tuple({one.node: one for one in found}.values())
        model = _float16.to_float16(model, [one.node for one in kept])
    _graph.finish(model, path, _graph.metadata(known, config))
    return model, kept


def _compare(
    module: nn.Module, known: Checkpoint, artifact: Artifact, images: list[Array], config: ExportConfig
) -> Agreement:
    from slimdeploy.backends.registry import backend_for
    from slimdeploy.stages import _parity
    from slimdeploy.yolo import onnx_export

    log.info("export: comparing with PyTorch on %d images", config.check_images)
    session = backend_for(artifact).open(artifact)
    pairs = []
    for batch in _parity.batches(images, config.batch):
        pairs += _parity.per_image(onnx_export.run(module, batch), session.run({INPUT: batch}))
    session.close()
    return _parity.compare(pairs[: len(images)], known)


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

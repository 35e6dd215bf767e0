"""The graphs that one export writes, and the network that all of them are made from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy.configs import ExportConfig
from slimdeploy.errors import UsageError
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Checkpoint, Target

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from slimdeploy.stages._float16 import KeptFloat
    from slimdeploy.stages._parity import Array
    from slimdeploy.stages._ranges import Histogram

log = logging.getLogger("slimdeploy.export")

HIGHEST_OPSET = 17  # enough for the graph; ONNX Runtime's CUDA provider runs Resize of later opsets on the CPU
TYPED_INT8_OPSET = 19  # the first in which scales may be float16
TYPED_SINCE = 10  # TensorRT's first version that takes every type from the graph when asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One graph of a bundle.

    Attributes:
        precision: `fp32`, `fp16` or `int8`.
        body: type of what is not int8: `float32` or `float16`.
        opset: of the graph.
        weights_in_pairs: how an int8 graph stores its weights; see `_int8.quantised`.
        weight_bits: of an int8 graph's weights; 7 for CPUs, some of which have no VNNI.
    """

    precision: str
    body: str
    opset: int
    weights_in_pairs: bool = False
    weight_bits: int = 8

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"model.{self.precision}{'-fp16' if (self.precision, self.body) == ('int8', 'float16') else ''}.onnx"


def forms_for(target: Target, config: ExportConfig) -> tuple[Form, ...]:
    """Return the graphs that a bundle for a target holds, the one that was asked for first.

    An int8 bundle holds a float graph too, since int8 is not faster everywhere. TensorRT up to 9 builds int8 from a
    float32 body, and from 10 on from a typed one; a target that may have both gets both.

    Raises:
        UsageError: the config asks for an opset above the target's.
    """
    if config.opset > target.opset:
        raise UsageError(
            f"opset {config.opset} is above what the target {target.name} reads",
            wanted=f"{target.opset} or less",
            do="leave --opset out, or name another target",
        )
    opset = config.opset or min(target.opset, HIGHEST_OPSET)
    fp32 = Form(precision="fp32", body="float32", opset=opset)
    fp16 = Form(precision="fp16", body="float16", opset=opset)
    if config.precision != "int8":
        return ({"fp32": fp32, "fp16": fp16}[config.precision],)
    if target.kind == "cpu":
        return Form(precision="int8", body="float32", opset=opset, weight_bits=7), fp32
    majors = {int(version.split(".")[0]) for version in target.tensorrt} or {TYPED_SINCE - 1, TYPED_SINCE}
    forms = []
    if min(majors) < TYPED_SINCE:
        forms.append(Form(precision="int8", body="float32", opset=opset, weights_in_pairs=True))
    if max(majors) >= TYPED_SINCE:
        forms.append(Form(precision="int8", body="float16", opset=TYPED_INT8_OPSET))
    return (*forms, fp16)


class Graphs:
    """Traces a network once for each opset and writes it in any form.

    Args:
        module: the network; it is not changed.
        known: its checkpoint.
        config: input size and batch.
        images: inputs, each (3, H, W), on which activations that float16 cannot hold are looked for.
    """

    def __init__(self, module: nn.Module, known: Checkpoint, config: ExportConfig, images: list[Array]) -> None:
        from slimdeploy.yolo import onnx_export

        self.known, self.config, self.images = known, config, images
        self._network = onnx_export.raw_head(module)
        self._traced: dict[int, ModelProto] = {}
        self._peaks: dict[str, float] = {}

    def float32(self, opset: int) -> ModelProto:
        """Return the float32 graph at an opset."""
        from slimdeploy.stages import _graph
        from slimdeploy.yolo import onnx_export

        if opset not in self._traced:
            log.info("export: tracing at %dx%d, opset %d", *self.config.imgsz, opset)
            with scratch_folder() as folder:
                path = Path(folder) / "traced.onnx"
                batch = 1 if self.config.dynamic_batch else self.config.batch
                onnx_export.write_graph(self._network, path, imgsz=self.config.imgsz, batch=batch, opset=opset)
                traced = _graph.simplified(path, opset=opset)
            self._traced[opset] = _graph.with_dynamic_batch(traced) if self.config.dynamic_batch else traced
        return self._traced[opset]

    def write(
        self, form: Form, path: Path, *, limits: Mapping[str, float] | None = None, keep: Sequence[KeptFloat] = ()
    ) -> tuple[int, tuple[KeptFloat, ...]]:
        """Write the network in a form.

        Args:
            form: what to write.
            path: the file.
            limits: of activations, for int8.
            keep: nodes that int8 leaves float.

        Returns:
            The file's IR version, and the nodes that stay float32 in a graph of lower precision; in an int8 graph,
            those that are not int8, whatever their type.
        """
        from slimdeploy.stages import _float16, _graph, _int8

        model = self.float32(form.opset)
        kept: tuple[KeptFloat, ...] = ()
        float32_nodes = self._float32_nodes(model) if form.body == "float16" else ()
        if form.precision == "int8":
            assert limits is not None
            kept = (*keep, *_int8.head(model))
            model = _int8.quantised(
                model,
                limits,
                [one.node for one in keep],
                weights_in_pairs=form.weights_in_pairs,
                weight_bits=form.weight_bits,
            )
        if form.body == "float16":
            model = _float16.to_float16(model, [one.node for one in float32_nodes])
            kept = tuple({one.node: one for one in (*kept, *float32_nodes)}.values())
        _graph.finish(model, path, _graph.metadata(self.known, self.config, precision=form.precision))
        return int(model.ir_version), kept

    def _float32_nodes(self, model: ModelProto) -> tuple[KeptFloat, ...]:
        from slimdeploy.stages import _float16, _graph, _parity

        if not self._peaks:
            log.info("export: looking for activations that float16 cannot hold")
            self._peaks = _graph.activation_peaks(model, _parity.batches(self.images, self.config.batch))
        found = (*_float16.overflowing(model, self._peaks), *_float16.decoding(model))
        return tuple({one.node: one for one in found}.values())

    def limits(self, opset: int, inputs: Iterable[Array]) -> dict[str, float]:
        """Return the magnitude at which int8 cuts each activation off, by the config's rule.

        Args:
            opset: of the graph that is watched; names are the same at all of them.
            inputs: calibration images in batches, each (B, 3, H, W).
        """
        from slimdeploy.stages import _ranges

        histograms = self.histograms(opset, inputs)
        return {name: _ranges.limit(one, self.config.calibrator) for name, one in histograms.items()}

    def histograms(self, opset: int, inputs: Iterable[Array]) -> dict[str, Histogram]:
        """Return the magnitudes of every activation that int8 needs, from which each rule takes its limits."""
        from slimdeploy.stages import _int8, _ranges

        model = self.float32(opset)
        return _ranges.observe(model, _int8.observed(model), inputs)

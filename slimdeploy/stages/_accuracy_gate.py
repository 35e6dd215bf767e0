"""Score the int8 graph of an export against its float32 one, and let none pass that loses more than allowed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.configs import ValConfig
from slimdeploy.data.calibration import choose
from slimdeploy.data.dataset import Dataset
from slimdeploy.errors import GateError
from slimdeploy.lineage import write_json
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Accuracy, Artifact
from slimdeploy.stages import _parity, _sensitivity
from slimdeploy.stages._float16 import KeptFloat
from slimdeploy.stages._forms import Form, Graphs
from slimdeploy.stages._sensitivity import POINTS

log = logging.getLogger("slimdeploy.export")

SENSITIVITY = "sensitivity.json"
RUNTIME = "onnxruntime"  # for graphs whose own runtime is not here


class Written(Protocol):
    """A graph of the bundle: what it is, and its file."""

    form: Form
    artifact: Artifact


class Gate:
    """Scores int8 at once, and returns layers to float until it holds.

    Args:
        graphs: the network.
        form: the int8 form that is scored.
        limits: of its activations.
        dataset: its val split is scored on; the layers' sensitivity is measured on training images.
        runtime: what runs the graphs; empty takes ONNX Runtime.

    Raises:
        GateError: the accuracy cannot be held.
        DataError: the data set has no val split with labels.
    """

    def __init__(
        self, graphs: Graphs, form: Form, limits: dict[str, float], dataset: Dataset, *, runtime: str = ""
    ) -> None:
        self.graphs, self.dataset, self.runtime = graphs, dataset, runtime or RUNTIME
        self._limits, self._opset, self._bits = limits, form.opset, form.weight_bits
        config = graphs.config
        assert config.max_drop is not None
        self.max_drop = config.max_drop
        self.fp32 = self._score_form(Form(precision="fp32", body="float32", opset=form.opset))
        self.held = _sensitivity.hold(
            self.fp32.map50_95, self._score, self._layers,
            max_drop=config.max_drop, max_float_share=config.max_float_share,
        )  # fmt: skip

    @property
    def keep(self) -> tuple[KeptFloat, ...]:
        """The nodes that return to float."""
        return self.held.keep

    def _score(self, keep: Sequence[str]) -> float:
        form = Form(precision="int8", body="float32", opset=self._opset, weight_bits=self._bits)
        nodes = [KeptFloat(node=name, why=_sensitivity.RETURNED) for name in keep]
        return self._score_form(form, nodes).map50_95

    def _score_form(self, form: Form, keep: Sequence[KeptFloat] = ()) -> Accuracy:
        with scratch_folder() as folder:
            path = Path(folder) / form.file
            self.graphs.write(form, path, limits=self._limits, keep=keep)
            return self._score_file(read_artifact(path))

    def _score_file(self, artifact: Artifact) -> Accuracy:
        from slimdeploy.accuracy.evaluate import score

        log.info("export: scoring %s on %s", Path(artifact.path).name, self.dataset.name)
        return score(artifact, self.dataset, ValConfig(), backend=self.runtime)

    def _layers(self) -> tuple[_sensitivity.Layer, ...]:
        config = self.graphs.config
        chosen = choose(self.dataset, config.check_images, seed=config.seed)
        inputs = list(_parity.read_batches(chosen.images, config))
        return _sensitivity.rank(self.graphs.float32(self._opset), self._limits, inputs)

    def record(self, made: Sequence[Written], folder: Path) -> dict[str, Any]:
        """Score the int8 graphs as they lie in the bundle and return what its manifest says of their accuracy.

        Writes `sensitivity.json` where layers had to return.

        Raises:
            GateError: one of the files loses more than allowed.
        """
        scores = {
            one.form.file: self._score_file(one.artifact).map50_95 for one in made if one.form.precision == "int8"
        }
        drops = {name: round((self.fp32.map50_95 - score) * POINTS, 3) for name, score in scores.items()}
        for name, drop in drops.items():
            if drop > self.max_drop:
                raise GateError(
                    f"{name} loses {drop:.2f} points of mAP50-95", wanted=f"at most {self.max_drop:g} points",
                    do="try another --calibrator, or allow more with --max-drop",
                )  # fmt: skip
        if self.held.layers:
            write_json(folder / SENSITIVITY, {"schema": 1, **self.held.as_record()})
        return {
            "data": self.fp32.data,
            "images": self.fp32.images,
            "runtime": self.runtime,
            "max_drop": self.max_drop,
            "fp32_map50_95": self.fp32.map50_95,
            "map50_95": scores,
            "drop_points": drops,
            "returned": [layer.node for layer in self.held.returned],
            "returned_share": round(sum(layer.share for layer in self.held.returned), 4),
        }

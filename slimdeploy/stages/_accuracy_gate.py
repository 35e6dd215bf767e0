"""Score the int8 graph of an export against its float32 one, and let none pass that loses more than allowed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from slimdeploy.accuracy.bootstrap import paired_bootstrap
from slimdeploy.accuracy.matches import Matches
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.configs import ValConfig
from slimdeploy.data.calibration import choose
from slimdeploy.data.dataset import Dataset
from slimdeploy.errors import GateError
from slimdeploy.lineage import write_json
from slimdeploy.outputs import scratch_folder
from slimdeploy.records import Accuracy, Artifact, Interval
from slimdeploy.stages import _parity, _sensitivity
from slimdeploy.stages._float16 import KeptFloat
from slimdeploy.stages._forms import Form, Graphs

log = logging.getLogger("slimdeploy.export")

SENSITIVITY = "sensitivity.json"
RUNTIME = "onnxruntime"  # for graphs whose own runtime is not here


class Written(Protocol):
    """A graph of the bundle: what it is, and its file."""

    form: Form
    artifact: Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a graph scored on the val split, and which of its detections were right."""

    accuracy: Accuracy
    matches: Matches


class Gate:
    """Scores int8 at once, and returns layers to float until it holds.

    Args:
        graphs: the network.
        form: the int8 form that is scored.
        limits: of its activations.
        dataset: its val split is scored on; layers are chosen on training images.
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
        self._int8: dict[tuple[str, ...], Score] = {}
        self.held = _sensitivity.hold(
            self, self._layers, self._damage_of, max_drop=config.max_drop, max_float_share=config.max_float_share
        )

    @property
    def keep(self) -> tuple[KeptFloat, ...]:
        """The nodes that return to float."""
        return self.held.keep

    def drop(self, keep: Sequence[str]) -> Interval:
        """Return what the float32 graph is ahead of the int8 graph with some nodes kept float."""
        return self._lead(self._scored(keep), self.fp32)

    def gain(self, keep: Sequence[str]) -> Interval:
        """Return what the int8 graph with some nodes kept float is ahead of the one without."""
        return self._lead(self._scored(()), self._scored(keep))

    def _lead(self, behind: Score, ahead: Score) -> Interval:
        return paired_bootstrap(behind.matches, ahead.matches)

    def _scored(self, keep: Sequence[str]) -> Score:
        if tuple(keep) not in self._int8:
            form = Form(precision="int8", body="float32", opset=self._opset, weight_bits=self._bits)
            nodes = [KeptFloat(node=name, why=_sensitivity.RETURNED) for name in keep]
            self._int8[tuple(keep)] = self._score_form(form, nodes)
        return self._int8[tuple(keep)]

    def _score_form(self, form: Form, keep: Sequence[KeptFloat] = ()) -> Score:
        with scratch_folder() as folder:
            path = Path(folder) / form.file
            self.graphs.write(form, path, limits=self._limits, keep=keep)
            return self._score_file(read_artifact(path))

    def _score_file(self, artifact: Artifact) -> Score:
        from slimdeploy.accuracy import coco
        from slimdeploy.accuracy.evaluate import score
        from slimdeploy.accuracy.matches import Keeping

        log.info("export: scoring %s on %s", Path(artifact.path).name, self.dataset.name)
        scorer = Keeping(coco.score)
        accuracy = score(artifact, self.dataset, ValConfig(), backend=self.runtime, scorer=scorer)
        return Score(accuracy=accuracy, matches=scorer.matches())

    def _layers(self) -> tuple[_sensitivity.Layer, ...]:
        return _sensitivity.rank(self.graphs.float32(self._opset), self._limits, self._inputs)

    @cached_property
    def _inputs(self) -> list[Any]:
        """Training images, on which layers are ranked and chosen."""
        config = self.graphs.config
        chosen = choose(self.dataset, config.check_images, seed=config.seed)
        return list(_parity.read_batches(chosen.images, config))

    @cached_property
    def _damage_of(self) -> _sensitivity.JointDamage:
        return _sensitivity.JointDamage(self.graphs.float32(self._opset), self._limits, self._inputs)

    def record(self, made: Sequence[Written], folder: Path) -> dict[str, Any]:
        """Score the int8 graphs as they lie in the bundle and return what its manifest says of their accuracy.

        Writes `sensitivity.json` where layers had to return.

        Raises:
            GateError: one of the files loses more than allowed.
        """
        scores = {each.form.file: self._score_file(each.artifact) for each in made if each.form.precision == "int8"}
        drops = {name: self._lead(score, self.fp32) for name, score in scores.items()}
        for name, drop in drops.items():
            if drop.points > self.max_drop:
                raise GateError(
                    f"{name} loses {_sensitivity.interval_text(drop)}", wanted=f"at most {self.max_drop:g} points",
                    do="try another --calibrator, or allow more with --max-drop",
                )  # fmt: skip
        if self.held.layers:
            write_json(folder / SENSITIVITY, {"schema": 1, **self.held.as_record()})
        return {
            "data": self.fp32.accuracy.data,
            "images": self.fp32.accuracy.images,
            "runtime": self.runtime,
            "max_drop": self.max_drop,
            "fp32_map50_95": self.fp32.accuracy.map50_95,
            "map50_95": {name: score.accuracy.map50_95 for name, score in scores.items()},
            "drop_points": {name: round(drop.points, 3) for name, drop in drops.items()},
            "drop_interval": {name: [round(drop.low, 3), round(drop.high, 3)] for name, drop in drops.items()},
            "returned": [layer.node for layer in self.held.returned],
            "returned_share": round(sum(layer.share for layer in self.held.returned), 4),
        }

"""manifest.json: everything that a runtime must know to feed a model and to trust its file.

The schema is published beside this module as `manifest.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slimdeploy.backends.protocol import INPUT, OUTPUT, PROTOTYPES
from slimdeploy.board.names import wrong_names
from slimdeploy.bundle.next_step import build_command, with_shapes
from slimdeploy.bundle.schema import problems
from slimdeploy.bundle.trtcheck import NOT_ASKED, Verdict
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.lineage import read_json, sha256_file, versions
from slimdeploy.records import Artifact, Checkpoint, Target

SCHEMA = 1
MANIFEST = "manifest.json"
LICENCE_NOTE = (
    "The network's code is ultralytics' and slimdeploy's, both AGPL-3.0; the licence of the weights is their owner's."
)
PADDING = 114  # grey of the letterbox, of 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One ONNX file of a bundle.

    Attributes:
        file: its name.
        precision: `fp32`, `fp16` or `int8`.
        body: type of what is not int8: `float32` or `float16`.
        opset: of the graph.
        ir_version: of the file.
        box_shift_px: largest move of a box corner against the network, in pixels.
        score_change: largest change of a score against the network.
        float_nodes: nodes that a graph of lower precision leaves float, each with `node` and `why`.
        parser: what NVIDIA's own ONNX parser says of it.
    """

    file: str
    precision: str
    body: str
    opset: int
    ir_version: int
    box_shift_px: float
    score_change: float
    float_nodes: tuple[Mapping[str, str], ...] = ()
    parser: Verdict = NOT_ASKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a bundle is made of.

    Attributes:
        artifact: the model that was asked for.
        checkpoint: the weights that it was exported from.
        target: what it is for.
        check: how it was compared with its network.
        graphs: every graph of the bundle, the model's own first.
        calibration: how the ranges of int8 were measured, or None.
        recommendation: which graph to run and why, or None where there is one alone.
        accuracy: what int8 loses against fp32, or None where no bound was asked for.
        limits: what the board's check holds the engine to beside its boxes, or None.
        lineage: how it was made: settings, and hashes of what was read; or None.
    """

    artifact: Artifact
    checkpoint: Checkpoint
    target: Target
    check: Mapping[str, Any]
    graphs: tuple[Graph, ...]
    calibration: Mapping[str, Any] | None = None
    recommendation: Mapping[str, Any] | None = None
    accuracy: Mapping[str, Any] | None = None
    limits: Mapping[str, float] | None = None
    lineage: Mapping[str, Any] | None = None


def build_manifest(contents: Contents, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return a bundle's manifest.

    Args:
        contents: what the bundle is made of.
        files: the bundle's files by their names in it; the manifest itself and run.json are not among them.
    """
    manifest = {
        "schema": SCHEMA,
        "model": _model(contents),
        "input": _input(contents.artifact),
        **_outputs(contents),
        "target": _target(contents.target),
        "graphs": [_graph(one, contents) for one in contents.graphs],
        "board": _board(contents),
        "check": dict(contents.check),
        "weights": _weights(contents.checkpoint),
        "versions": versions(),
        "licence": LICENCE_NOTE,
        "files": {
            name: {"sha256": sha256_file(path), "size_bytes": path.stat().st_size} for name, path in files.items()
        },
    }
    optional = {name: getattr(contents, name) for name in ("calibration", "recommendation", "accuracy", "limits")}
    manifest |= {name: dict(told) for name, told in optional.items() if told is not None}
    validate(manifest, "the new manifest")
    return manifest


def _weights(checkpoint: Checkpoint) -> dict[str, Any]:
    weights: dict[str, Any] = {"file": Path(checkpoint.path).name, "sha256": checkpoint.sha256}
    if checkpoint.planned_latency is not None:
        told = {name: value for name, value in checkpoint.planned_latency.items() if value is not None}
        weights["planned_latency"] = json.loads(json.dumps(told))  # tuples become lists
    return weights


def _model(contents: Contents) -> dict[str, Any]:
    artifact, graph = contents.artifact, contents.graphs[0]
    return {
        "name": Path(contents.checkpoint.path).stem,
        "file": Path(artifact.path).name,
        "format": artifact.format,
        "precision": artifact.precision,
        "task": artifact.spec.task,
        "classes": list(artifact.spec.classes),
        "stride": artifact.spec.stride,
        "parameters": artifact.parameters,
        "macs": artifact.macs,
        "pruned": contents.checkpoint.pruned,
        "opset": graph.opset,
        "ir_version": graph.ir_version,
        "float_nodes": [dict(one) for one in graph.float_nodes],
    }


def _input(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": INPUT,
        "shape": [artifact.spec.batch, 3, *artifact.spec.imgsz],
        "dynamic_batch": artifact.spec.dynamic_batch,
        "dtype": "float32",
        "layout": "NCHW",
        "colour": "RGB",
        "scale": 1 / 255,
        "letterbox": {
            "keep_ratio": True,
            "scale_up": True,
            "centred": True,
            "padding": PADDING,
            "interpolation": "bilinear",
        },
    }


def _outputs(contents: Contents) -> dict[str, Any]:
    shapes = contents.artifact.spec.outputs
    found = {"output": {"name": OUTPUT, "shape": list(shapes[OUTPUT]), "dtype": "float32", **_meaning(contents)}}
    if PROTOTYPES in shapes:
        found["prototypes"] = {
            "name": PROTOTYPES,
            "shape": list(shapes[PROTOTYPES]),
            "dtype": "float32",
            "layout": "batch, prototypes, height, width",
            "use": "a mask is where the sum of the prototypes, each times the box's coefficient, is above 0",
        }
    return found


def _meaning(contents: Contents) -> dict[str, Any]:
    """Say what `output0` holds. The rows follow each other in the order in which the manifest names them."""
    spec, keypoints = contents.artifact.spec, contents.checkpoint.kpt_shape
    if spec.task == "classify":
        return {"layout": "batch, classes", "scores": "one for each class, after the softmax", "nms": False}
    told: dict[str, Any] = {
        "layout": "batch, box and scores, anchors",
        "boxes": "centre x, centre y, width, height",
        "box_unit": "pixels of the input",
        "scores": "one for each class, after the sigmoid",
        "nms": False,
    }
    added = {
        "segment": "one coefficient for each prototype",
        "obb": "the angle in radians by which its width turns from the x axis towards the y axis",
    }.get(spec.task)
    if keypoints:
        values = "x, y, visibility after the sigmoid" if keypoints[1] == 3 else "x, y"
        added = f"for each of {keypoints[0]} keypoints {values}, in pixels of the input"
        told["kpt_shape"] = list(keypoints)
    return told | ({"layout": "batch, box, scores and more, anchors", "more": added} if added else {})


def _target(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "title": target.title,
        "kind": target.kind,
        "runtime": target.runtime,
        "jetpack": list(target.jetpack),
        "tensorrt": list(target.tensorrt),
    }


def _graph(graph: Graph, contents: Contents) -> dict[str, Any]:
    told: dict[str, Any] = {
        "file": graph.file,
        "precision": graph.precision,
        "body": graph.body,
        "opset": graph.opset,
        "box_shift_px": graph.box_shift_px,
        "score_change": graph.score_change,
        "nvidia_parser": graph.parser.outcome,
    }
    if contents.target.runtime == "tensorrt":
        told["build"] = _build(graph, contents)
    return told


def _build(graph: Graph, contents: Contents) -> str:
    command = build_command(contents.target.tensorrt, graph.precision, graph.file, body=graph.body)
    return with_shapes(command, contents.artifact.spec)


def _board(contents: Contents) -> dict[str, Any]:
    """What is known of the board: nothing was run there, and that is said."""
    graph = contents.graphs[0]
    board: dict[str, Any] = {"run": "not run", **graph.parser.as_manifest()}
    if contents.target.runtime == "tensorrt":
        board["build"] = _build(graph, contents)
    return board


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return a bundle's manifest, checked against its schema; the files beside it are not looked at.

    Raises:
        ArtifactError: there is none, it is damaged, or a newer slimdeploy wrote it.
    """
    if not folder.is_dir():
        raise ArtifactError(f"no bundle at {folder}", wanted="a folder that 'slimdeploy export' wrote")
    try:
        manifest = read_json(folder / MANIFEST, what="bundle manifest")
    except UsageError as error:
        raise ArtifactError(error.wrong, wanted=error.wanted, do=error.do) from error
    validate(manifest, str(folder / MANIFEST))
    return manifest


def validate(manifest: Mapping[str, Any], where: str) -> None:
    """Raise ArtifactError, naming the first problem, unless a manifest follows its schema.

    Args:
        manifest: what manifest.json holds.
        where: what to call it in the message.
    """
    found = next(problems(manifest, published_schema()), None)
    if found:
        raise ArtifactError(f"{where}: {found}", wanted="what manifest.schema.json says", do="export it again")
    if wrong := wrong_names(manifest["model"]["classes"]):
        raise ArtifactError(f"{where}: {wrong}", wanted="different class names, each in one line", do="export it again")


@cache
def published_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest."""
    path = Path(__file__).with_name("manifest.schema.json")
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema

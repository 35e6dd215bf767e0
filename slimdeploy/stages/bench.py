"""Time and score models side by side, and keep every raw sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slimdeploy._needs import needs, require
from slimdeploy.bundle.manifest import read_manifest
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import UsageError
from slimdeploy.lineage import Input, file_input, stage_run, write_json
from slimdeploy.outputs import refuse_existing
from slimdeploy.records import Artifact, Row, as_json

if TYPE_CHECKING:
    from slimdeploy.bench.measure import Measured

OUTPUT = "bench.json"
MANIFEST = "manifest.json"
TITLE = "Latency and accuracy"
NOT_MEASURED = "{name} has no figures, since {why}."


def bench(
    models: Sequence[tuple[str, Path]],
    config: BenchConfig,
    out: Path,
    *,
    data: Path | None = None,
    trust: bool = False,
) -> Path:
    """Measure latency, each model in a process of its own, and with data also accuracy; write `bench.json`.

    With data, `matches.npz` keeps which detections were right and `evaluation.json` what is drawn of them.

    Args:
        models: names as shown, each once, and model files (.onnx or .pt).
        config: how latency and accuracy are measured.
        out: the folder to make.
        data: a data set's YAML to score on; without it, latency alone is measured.
        trust: open checkpoints even if they hold unknown objects.

    Returns:
        The path of `bench.json`: its `rows` are records.Row, one a model, in the order given.

    Raises:
        ArtifactError: a file is missing, damaged, or cannot be run.
        DataError: the data set is missing, empty, mislabelled or has other classes.
        DeviceError: every worker process died, or gave no answer in time. One that did while others went on is told of
            in the notes, and its row holds no figures.
        OutputExists: `out` is there already.
        UsageError: a model is no detector, and there is data or whole frames are to be timed.
    """
    from slimdeploy.data.dataset import read_dataset

    refuse_existing(out)
    require("onnx")
    dataset = read_dataset(data) if data else None
    with needs("onnx"):  # seconds of imports, for which nobody waits who named the wrong file
        from slimdeploy.accuracy.evaluate import require_detector, require_scorable
        from slimdeploy.backends.artifacts import read_artifact
        from slimdeploy.bench.measure import measure_all
        from slimdeploy.stages._scoring import gains, score_rows
    imgsz = (config.val.imgsz, config.val.imgsz)
    artifacts = [(name, read_artifact(path, imgsz=imgsz, trust=trust)) for name, path in models]
    for name, artifact in artifacts:
        if (config.end_to_end or config.fps) and artifact.spec.task != "detect":
            raise UsageError(
                f"whole frames for {name}, a network for the task {artifact.spec.task!r}", wanted="a detector"
            )
        if dataset:
            require_detector(artifact)
            dataset.require_classes(artifact.spec.classes)
    if dataset:
        require_scorable(dataset, config.val.split)  # now, not after minutes of measuring
    inputs = bench_inputs(models, dataset.as_input() if dataset else None)
    with stage_run("bench", config=config, inputs=inputs, out=out) as run:
        images = [str(path) for path in dataset.images(config.val.split)] if dataset else []
        measured = measure_all(artifacts, config, backend=config.backend, trust=trust, images=images)
        rows = [row_of(name, one, took) for (name, one), took in zip(artifacts, measured, strict=True)]
        if dataset:
            living = {one[0]: one[1] for one, took in zip(artifacts, measured, strict=True) if took.failed is None}
            rows = score_rows(rows, living, dataset, config, run.folder, trust=trust)
        notes = [NOT_MEASURED.format(name=one.name, why=one.failed.wrong) for one in measured if one.failed]
        notes += gains(run.folder) if dataset else []
        write_json(run.folder / OUTPUT, {"schema": 1, "title": TITLE, "rows": list(map(as_json, rows)), "notes": notes})
    return out / OUTPUT


def bench_inputs(models: Sequence[tuple[str, Path]], data: Input | None) -> Mapping[str, Input]:
    """Return what a measurement reads, by role: each model under its name, and the data set."""
    inputs = {f"model:{name}": file_input(path) for name, path in models if path.is_file()}
    return {**inputs, "data": data} if data else inputs


def find_models(places: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the models that paths stand for, each with a name of its own.

    Args:
        places: model files, or folders of bundles.

    Raises:
        UsageError: a folder is no bundle.
    """
    found = [(place.name if place.is_dir() else place.stem, model_file(place)) for place in places]
    names = [name for name, _ in found]
    return [(name if names.count(name) == 1 else str(path), path) for name, path in found]


def model_file(place: Path) -> Path:
    """Return a model file, or the graph of a bundle's folder.

    Raises:
        UsageError: a folder is no bundle.
    """
    if not place.is_dir():
        return place
    if not (place / MANIFEST).exists():
        raise UsageError(f"{place} is no bundle", wanted="a model file, or a folder that slimdeploy export made")
    return place / str(read_manifest(place)["model"]["file"])


def row_of(name: str, artifact: Artifact, took: Measured | None = None) -> Row:
    """Return the row of a model: what its file tells, and what was measured."""
    shared = {field.name for field in dataclasses.fields(Row)} & {f.name for f in dataclasses.fields(Artifact)}
    known = {field: getattr(artifact, field) for field in shared}
    row = Row(name=name, file=Path(artifact.path).name, **known)
    if took is None:
        return row
    return dataclasses.replace(
        row,
        latency=took.latency,
        end_to_end=took.end_to_end,
        offered=took.offered,
        power=took.power,
        layers=took.layers,
    )

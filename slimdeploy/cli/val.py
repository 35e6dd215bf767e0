"""`slimdeploy val`: score models side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slimdeploy._needs import needs
from slimdeploy.cli._shared import ConfigOption, DataOption, JsonOption, TrustOption, show, table
from slimdeploy.configs import ValConfig, build
from slimdeploy.errors import UsageError
from slimdeploy.records import Row, as_json
from slimdeploy.report.cells import differing
from slimdeploy.report.scores import DETAILS, DETAILS_NOTE, by_class, details

if TYPE_CHECKING:
    from slimdeploy.accuracy.boxes import Scorer
    from slimdeploy.accuracy.matches import Matches
    from slimdeploy.data.dataset import Dataset

NAME = "val"
HEADER = ("model", "parameters", "MB", "GMACs", "mAP50", "mAP50-95", "points", "precision", "recall")
SIZES = 4  # columns before the scores
OFFICIAL = {  # figures of VisDrone's protocol, by their titles
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "AR1": "ar1", "AR10": "ar10", "AR100": "ar100", "AR500": "ar500",
    "macro AP": "macro_ap", "macro AP50": "macro_ap50",
}  # fmt: skip
OFFICIAL_NOTE = (
    "AP and AR are the official figures, in which a class weighs as many times as images show it; "
    "the macro ones weigh every class alike."
)
POINTS_NOTE = (
    "points: mAP50-95 more than the first model's, in hundredths, with its 95 % interval over which images were scored."
)
PROTOCOLS = ("coco", "visdrone")


def command(
    weights: Annotated[list[Path], typer.Argument(help="Models: .pt checkpoints and exported .onnx files.")],
    data: DataOption,
    split: Annotated[str | None, typer.Option(help="Which split to score on: val, test or train.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input of a .pt, in pixels.")] = None,
    max_det: Annotated[int | None, typer.Option(help="Most boxes kept in an image; crowds want more than 300.")] = None,
    backend: Annotated[str, typer.Option(help="The runtime; without it, the one of the file's format.")] = "",
    protocol: Annotated[
        str, typer.Option(help="Whose rules: coco, or visdrone, which reads annotations/ beside images/.")
    ] = "coco",
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Score models on the same images: size, GMACs, mAP, precision and recall, side by side.

    Example: slimdeploy val dense.pt tuned.pt model.fp16.onnx --data visdrone.yaml --imgsz 640
    """
    with needs("onnx"):
        from slimdeploy.accuracy.bootstrap import paired_bootstrap
        from slimdeploy.accuracy.evaluate import require_detector, score
        from slimdeploy.accuracy.matches import Keeping
        from slimdeploy.backends.artifacts import read_artifact
        from slimdeploy.data.dataset import read_dataset
    from slimdeploy.recipes import section

    settings = build(ValConfig, {"split": split, "imgsz": imgsz, "max_det": max_det}, section(config, NAME))
    side = (settings.imgsz, settings.imgsz)
    artifacts = [read_artifact(path, imgsz=side, trust=trust) for path in weights]
    for one in artifacts:
        require_detector(one)
    dataset = read_dataset(data)
    settings, scorer = _judge(protocol, dataset, settings)
    rows: list[Row] = []
    kept: list[Matches] = []
    for name, one in zip(short_names(weights), artifacts, strict=True):
        keeping = Keeping(scorer)
        accuracy = score(one, dataset, settings, backend=backend, trust=trust, scorer=keeping)
        kept.append(keeping.matches())
        rows.append(
            Row(
                name=name,
                file=Path(one.path).name,
                format=one.format,
                precision=one.precision,
                parameters=one.parameters,
                size_bytes=one.size_bytes,
                macs=one.macs,
                accuracy=accuracy,
                difference=paired_bootstrap(kept[0], kept[-1]) if rows and protocol == "coco" else None,
            )
        )
    show({"schema": 1, "rows": [as_json(row) for row in rows]}, text=as_text(rows), as_json=json)


def _judge(protocol: str, dataset: Dataset, settings: ValConfig) -> tuple[ValConfig, Scorer]:
    """Return the scorer of a protocol, and the settings with as many boxes an image as it counts."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"no protocol {protocol!r}", wanted=" or ".join(PROTOCOLS))
    with needs("onnx"):
        from slimdeploy.accuracy import coco, visdrone
    if protocol == "coco":
        return settings, coco.score
    most = max(settings.max_det, *visdrone.MOST)
    return dataclasses.replace(settings, max_det=most), visdrone.scorer_for(dataset, settings.split)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return each file's name, with its folder where two files have the same name."""
    names = [path.name for path in paths]
    return [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]


def as_text(rows: Sequence[Row]) -> str:
    """Return scored models as a table, with what a reader must know of the data below it."""
    accuracy = rows[0].accuracy
    if accuracy is None:
        raise ValueError("only scored rows have a table of scores")
    official = _is_official(rows[0])
    header = (*HEADER[:SIZES], *OFFICIAL) if official else HEADER
    lines = [table(header, [_cells(row) for row in rows])]
    lines.append(f"{accuracy.data}: {accuracy.images} images, {accuracy.boxes} boxes, {accuracy.metric}")
    if official:
        lines.append(OFFICIAL_NOTE)
    else:
        lines += [POINTS_NOTE] if len(rows) > 1 else []
        lines += ["", table(("model", *DETAILS), [(row.name, *details(row)) for row in rows]), DETAILS_NOTE]
        lines += (
            ["", table(("AP50-95 by class", *(row.name for row in rows)), by_class(rows))]
            if len(accuracy.per_class) > 1
            else []
        )
    if accuracy.rendered:
        lines.append(
            "These images are rendered, not photographed: the scores tell how models compare, not how they fly."
        )
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    size = (f"{row.parameters:,}", f"{row.size_bytes / 1e6:.2f}", f"{row.macs / 1e9:.3f}")
    if row.accuracy is None:
        return (row.name, *size, *[""] * (len(HEADER) - SIZES))
    if _is_official(row):
        return (row.name, *size, *(f"{row.accuracy.figures[key]:.3f}" for key in OFFICIAL.values()))
    scores = [
        f"{figure:.3f}"
        for figure in (row.accuracy.map50, row.accuracy.map50_95, row.accuracy.precision, row.accuracy.recall)
    ]
    return (row.name, *size, *scores[:2], differing(row).text, *scores[2:])


def _is_official(row: Row) -> bool:
    return row.accuracy is not None and set(OFFICIAL.values()) <= set(row.accuracy.figures)

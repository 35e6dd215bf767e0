"""`slimdeploy val`: score models side by side."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from slimdeploy._needs import needs, require
from slimdeploy.cli._shared import ConfigOption, DataOption, JsonOption, TrustOption, show, table
from slimdeploy.configs import ValConfig, build
from slimdeploy.records import Row, as_json
from slimdeploy.report.cells import differing
from slimdeploy.report.scores import DETAILS, DETAILS_NOTE, by_class, details

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
    "points: {} more than the first model's, in hundredths, with its 95 % interval over which images were scored."
)


def command(
    weights: Annotated[
        list[Path],
        typer.Argument(help="Models: .pt checkpoints, exported .onnx files, or folders of bundles."),
    ],
    data: DataOption,
    split: Annotated[str | None, typer.Option(help="Which split to score on: val, test or train.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input of a .pt, in pixels.")] = None,
    max_det: Annotated[int | None, typer.Option(help="Most boxes kept in an image; crowds want more than 300.")] = None,
    backend: Annotated[str, typer.Option(help="The runtime; without it, the one of the file's format.")] = "",
    protocol: Annotated[
        str, typer.Option(help="Whose rules: coco, or visdrone, which reads annotations/ beside images/.")
    ] = "coco",
    out: Annotated[
        Path | None,
        typer.Option(help="A folder to make, with the report, plots and the worst images; compare and gate read it."),
    ] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Score models on the same images: size, GMACs, mAP, precision and recall, side by side.

    Example: slimdeploy val dense.pt tuned.pt model.fp16.onnx --data visdrone.yaml --imgsz 640 --out scored
    """
    from slimdeploy.data.dataset import read_dataset
    from slimdeploy.outputs import refuse_existing
    from slimdeploy.recipes import section

    require("onnx")
    dataset = read_dataset(data)
    with needs("onnx"):  # seconds of imports, for which nobody waits who named the wrong file
        from slimdeploy.accuracy.evaluate import require_detector
        from slimdeploy.backends.artifacts import read_artifact
        from slimdeploy.stages.bench import model_file
        from slimdeploy.stages.val import require_protocol, val, write
    require_protocol(protocol)
    if out is not None:
        refuse_existing(out)
        with needs("report"):
            importlib.import_module("jinja2")  # now, not after minutes of scoring
    settings = build(ValConfig, {"split": split, "imgsz": imgsz, "max_det": max_det}, section(config, NAME))
    side = (settings.imgsz, settings.imgsz)
    names, weights = short_names(weights), [model_file(path) for path in weights]
    artifacts = [read_artifact(path, imgsz=side, trust=trust) for path in weights]
    for one in artifacts:
        require_detector(one)
    models = list(zip(names, artifacts, strict=True))
    score_all = partial(val, models, dataset, settings, protocol=protocol, backend=backend, trust=trust)
    files = list(zip(names, weights, strict=True))
    scored = score_all() if out is None else write(score_all, files, dataset, settings, out)
    told: dict[str, object] = {"schema": 1, "rows": [as_json(row) for row in scored.rows]}
    where, said = ({}, "") if out is None else ({"out": str(out)}, f"\n\nwritten: {out}")
    show(told | where, text=as_text(scored.rows) + said, as_json=json, complete=out or "")


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
    header = (*HEADER[:SIZES], "AP", "points", *list(OFFICIAL)[1:]) if official else HEADER
    lines = [table(header, [_cells(row) for row in rows])]
    lines.append(f"{accuracy.data}: {accuracy.images} images, {accuracy.boxes} boxes, {accuracy.metric}")
    lines += [POINTS_NOTE.format("AP" if official else "mAP50-95")] if len(rows) > 1 else []
    if official:
        lines.append(OFFICIAL_NOTE)
    else:
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
        first, *others = (f"{row.accuracy.figures[key]:.3f}" for key in OFFICIAL.values())
        return (row.name, *size, first, differing(row).text, *others)
    scores = [
        f"{figure:.3f}"
        for figure in (row.accuracy.map50, row.accuracy.map50_95, row.accuracy.precision, row.accuracy.recall)
    ]
    return (row.name, *size, *scores[:2], differing(row).text, *scores[2:])


def _is_official(row: Row) -> bool:
    return row.accuracy is not None and set(OFFICIAL.values()) <= set(row.accuracy.figures)

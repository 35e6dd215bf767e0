"""What accuracy rests on, as a bench left it: precision over recall, confusions, and scenes with what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimdeploy.errors import UsageError
from slimdeploy.fields import require
from slimdeploy.files import MALFORMED, why_malformed
from slimdeploy.lineage import read_json
from slimdeploy.records import Evaluation, Found, Scene, Seen
from slimdeploy.report.read import bench_file

FILE = "evaluation.json"  # beside bench.json
POINTS = 101  # of a precision-recall curve


def read_evaluation(run: Path) -> Evaluation | None:
    """Return the evaluation beside a run's bench.json, or None where there is none, as in runs of older versions.

    Raises:
        UsageError: the file is damaged, or a newer slimdeploy wrote it.
    """
    path = bench_file(run).parent / FILE
    if not path.is_file():
        return None
    plain = read_json(path, what="evaluation")
    try:
        found = Evaluation(
            classes=tuple(plain["classes"]),
            precision={name: tuple(map(float, curve)) for name, curve in plain["precision"].items()},
            confusion={name: tuple(tuple(map(int, row)) for row in rows) for name, rows in plain["confusion"].items()},
            judged=str(plain["judged"]),
            scenes=tuple(map(_scene, plain["scenes"])),
        )
        require(found)
        _check(found)
    except MALFORMED as error:
        raise UsageError(f"{path} is damaged: {why_malformed(error)}", do="run the bench again") from error
    return found


def joined(evaluations: Sequence[Evaluation | None], names: Sequence[Mapping[str, str]]) -> Evaluation | None:
    """Return the evaluations of several runs as one, with the scenes of the first that has some.

    Args:
        evaluations: one a run, or None.
        names: of each run, the names of its rows in the joined report by those in the run itself.
    """
    known = [(one, new) for one, new in zip(evaluations, names, strict=True) if one is not None]
    if not known:
        return None
    first = known[0][0]
    alike = [(one, new) for one, new in known if one.classes == first.classes]
    shown, renamed = next(((one, new) for one, new in alike if one.scenes), known[0])
    return Evaluation(
        classes=first.classes,
        precision={new[name]: curve for one, new in alike for name, curve in one.precision.items() if name in new},
        confusion={new[name]: rows for one, new in alike for name, rows in one.confusion.items() if name in new},
        judged=renamed.get(shown.judged, shown.judged),
        scenes=tuple(
            dataclasses.replace(
                scene, seen={renamed[name]: seen for name, seen in scene.seen.items() if name in renamed}
            )
            for scene in shown.scenes
        ),
    )


def _check(found: Evaluation) -> None:
    boxes = [box for scene in found.scenes for seen in scene.seen.values() for box in seen.found]
    if any(box.label < 0 for box in boxes) or any(min(scene.size) < 1 for scene in found.scenes):
        raise UsageError("a scene has a class or a size below what there is", wanted="0 or more, and 1 px or more")
    side = len(found.classes) + 1
    if any(len(curve) != POINTS for curve in found.precision.values()):
        raise UsageError("a precision-recall curve is cut short", wanted=f"{POINTS} points")
    if any(len(rows) != side or any(len(row) != side for row in rows) for rows in found.confusion.values()):
        raise UsageError("a confusion matrix has another size", wanted=f"{side} rows and columns")


def _scene(plain: Mapping[str, Any]) -> Scene:
    height, width = map(int, plain["size"])
    return Scene(
        file=str(plain["file"]),
        size=(height, width),
        why=str(plain["why"]),
        jpeg=str(plain["jpeg"]),
        seen={name: _seen(one) for name, one in plain["seen"].items()},
    )


def _seen(plain: Mapping[str, Any]) -> Seen:
    return Seen(
        found=tuple(
            Found(xyxy=_box(one["xyxy"]), score=float(one["score"]), label=int(one["label"]), right=bool(one["right"]))
            for one in plain["found"]
        ),
        missed=tuple(map(_box, plain["missed"])),
    )


def _box(plain: Sequence[Any]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, plain)
    return x0, y0, x1, y1

"""Score the models of a bench, and keep what intervals, plots and pictures are made from."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy import coco, matches
from slimdeploy.accuracy.average_precision import precision_at_recalls
from slimdeploy.accuracy.bootstrap import paired_bootstrap
from slimdeploy.accuracy.boxes import Truths
from slimdeploy.accuracy.evaluate import score
from slimdeploy.accuracy.matches import Keeping, Matches
from slimdeploy.accuracy.mistakes import confident, confusion, mistakes, pair
from slimdeploy.board.boxes import Detections
from slimdeploy.configs import BenchConfig
from slimdeploy.data.dataset import Dataset
from slimdeploy.data.images import small_jpeg
from slimdeploy.lineage import write_json
from slimdeploy.records import Artifact, Evaluation, Found, Report, Row, Scene, Seen, as_json
from slimdeploy.report.evaluation import FILE
from slimdeploy.report.findings import compared_row
from slimdeploy.stages._training import TAUGHT, TUNED

SCENES = 3  # of each kind
SMALL_PX = 720  # longer side of a scene


def score_rows(
    rows: Sequence[Row],
    artifacts: Mapping[str, Artifact],
    dataset: Dataset,
    config: BenchConfig,
    folder: Path,
    *,
    trust: bool = False,
) -> list[Row]:
    """Return the rows with their accuracy, and all but the first with how it differs from the first one's.

    Args:
        rows: one a model, named as shown.
        artifacts: the models' files by the rows' names; rows without one are not scored.
        dataset: what to score on.
        config: how.
        folder: where matches.npz and evaluation.json are written.
        trust: open checkpoints even if they hold unknown objects.
    """
    scored: list[Row] = []
    kept: dict[str, Keeping] = {}
    found: dict[str, Matches] = {}
    for row in rows:
        if row.name not in artifacts:
            scored.append(row)
            continue
        keeping = kept[row.name] = Keeping(coco.score)
        accuracy = score(artifacts[row.name], dataset, config.val, backend=config.backend, trust=trust, scorer=keeping)
        found[row.name] = keeping.matches()
        comparable = row is not rows[0] and rows[0].name in found
        difference = paired_bootstrap(found[rows[0].name], found[row.name]) if comparable else None
        scored.append(dataclasses.replace(row, accuracy=accuracy, difference=difference))
    matches.save(folder / matches.FILE, found)
    judged = compared_row(Report(title="", rows=tuple(row for row in scored if row.accuracy))).name
    evaluation = evaluation_of(kept, dataset, config.val.split, judged=judged)
    write_json(folder / FILE, {"schema": 1, **as_json(evaluation)})
    return scored


def evaluation_of(
    kept: Mapping[str, Keeping], dataset: Dataset, split: str, *, judged: str, curves: bool = True
) -> Evaluation:
    """Return what is drawn of the models' boxes.

    Args:
        kept: what was scored, by the models' names.
        dataset: what it was scored on.
        split: which part of it.
        judged: the model whose mistakes choose the scenes.
        curves: whether precision over recall is drawn, which is COCO's.
    """
    found = {name: one.matches() for name, one in kept.items()} if curves else {}
    return Evaluation(
        classes=dataset.classes,
        precision={name: tuple(precision_at_recalls(one).round(5).tolist()) for name, one in found.items()},
        confusion={name: _confusion(one, len(dataset.classes)) for name, one in kept.items()},
        judged=judged,
        scenes=tuple(_scenes(kept, judged, dataset.images(split))),
    )


def gains(folder: Path) -> list[str]:
    """Return what a teacher gained, for each model of a bench that was fine-tuned with one and without one."""
    found = matches.load(folder / matches.FILE)
    notes = []
    for name, taught in found.items():
        plain = found.get(name.replace(TAUGHT, TUNED, 1)) if name.startswith(TAUGHT) else None
        if plain is not None:
            gain = paired_bootstrap(plain, taught)
            figure = f"{gain.points:+.2f} points of mAP50-95 [{gain.low:+.2f}, {gain.high:+.2f}]"
            shown = gain.low > 0 or gain.high < 0
            notes.append(f"Distillation ({name}): {figure}{'' if shown else ', so no gain and no loss is shown'}.")
    return notes


def _confusion(keeping: Keeping, classes: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in confusion(keeping.detections, keeping.truths, classes).tolist())


def _scenes(kept: Mapping[str, Keeping], judged: str, images: Sequence[Path]) -> list[Scene]:
    wrong = mistakes(kept[judged].detections, kept[judged].truths)
    held = np.array([len(truth.labels) for truth in kept[judged].truths])
    return [_scene(kept, images[i], i, why) for i, why in choose(wrong, held)]


def choose(wrong: npt.NDArray[np.int64], held: npt.NDArray[np.int64]) -> list[tuple[int, str]]:
    """Return positions of images to show, each once: typical ones, and those with the most mistakes.

    Args:
        wrong: mistakes in each image; (images,).
        held: objects in each image; a typical one holds some. (images,).
    """
    worst = [int(i) for i in np.argsort(-wrong, kind="stable")[:SCENES] if wrong[i]]
    left = np.array([i for i in np.argsort(wrong, kind="stable") if held[i] and i not in worst], dtype=np.int64)
    quarters = (np.arange(1, SCENES + 1) * len(left)) // (SCENES + 1)  # of the images, by their number of mistakes
    typical = left[quarters].tolist() if len(left) > SCENES else left.tolist()
    return [(i, "typical") for i in typical] + [(i, "worst") for i in worst]


def _scene(kept: Mapping[str, Keeping], image: Path, number: int, why: str) -> Scene:
    truth = next(iter(kept.values())).truths[number]
    return Scene(
        file=image.name,
        size=truth.size,
        why=why,
        jpeg=base64.b64encode(small_jpeg(image, SMALL_PX)).decode("ascii"),
        seen={name: _seen(confident(one.detections[number]), truth) for name, one in kept.items()},
    )


def _seen(found: Detections, truth: Truths) -> Seen:
    partner = pair(found, truth)
    held = np.append(truth.labels, -1)[partner]
    rows = zip(found.xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), held.tolist(), strict=True)
    missed = np.delete(truth.xyxy, partner[partner >= 0], axis=0)
    return Seen(
        found=tuple(
            Found(xyxy=_short(box), score=round(score_, 3), label=label, right=label == holds)
            for box, score_, label, holds in rows
        ),
        missed=tuple(_short(box) for box in missed.tolist()),
    )


def _short(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(value, 1) for value in box)
    return x0, y0, x1, y1

"""Score models side by side on the same images, by COCO's rules or VisDrone's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from slimdeploy.accuracy import coco, matches, visdrone, visdrone_bootstrap
from slimdeploy.accuracy.bootstrap import paired_bootstrap
from slimdeploy.accuracy.boxes import Scorer
from slimdeploy.accuracy.evaluate import score
from slimdeploy.accuracy.matches import Keeping
from slimdeploy.accuracy.visdrone import Official
from slimdeploy.configs import ValConfig
from slimdeploy.data.dataset import Dataset
from slimdeploy.errors import UsageError
from slimdeploy.lineage import stage_run, write_json
from slimdeploy.records import Artifact, Evaluation, Interval, Row, as_json
from slimdeploy.report.build import report_from
from slimdeploy.report.evaluation import FILE
from slimdeploy.report.read import BENCH_FILE
from slimdeploy.report.write import write_report
from slimdeploy.stages._scene_files import write_pictures
from slimdeploy.stages._scoring import evaluation_of
from slimdeploy.stages.bench import bench_inputs, row_of

PROTOCOLS = ("coco", "visdrone")
TITLE = "Accuracy"


def require_protocol(name: str) -> None:
    """Raise UsageError unless there is a protocol of this name."""
    if name not in PROTOCOLS:
        raise UsageError(f"no protocol {name!r}", wanted=" or ".join(PROTOCOLS))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What was found of the models.

    Attributes:
        rows: one a model, all but the first with the interval of its difference.
        evaluation: what is drawn of it.
        kept: the boxes behind it, by the rows' names.
    """

    rows: list[Row]
    evaluation: Evaluation
    kept: Mapping[str, Keeping]


def val(
    models: Sequence[tuple[str, Artifact]],
    dataset: Dataset,
    config: ValConfig,
    *,
    protocol: str = "coco",
    backend: str = "",
    trust: bool = False,
) -> Scored:
    """Score detectors on one split.

    Args:
        models: names as shown, each once, and model files.
        dataset: what to score on.
        config: split, thresholds and limits.
        protocol: one of PROTOCOLS.
        backend: the runtime; empty takes the default of each file's format.
        trust: open checkpoints even if they hold unknown objects.

    Raises:
        UsageError: no protocol of that name, or a model is no detector.
        DataError: see `accuracy.evaluate`.
    """
    require_protocol(protocol)
    official = protocol == "visdrone"
    if official:
        config = dataclasses.replace(config, max_det=max(config.max_det, *visdrone.MOST))
    rows: list[Row] = []
    kept: dict[str, Keeping] = {}
    differs = _Differences()
    for name, artifact in models:
        scorer: Scorer = visdrone.scorer_for(dataset, config.split) if official else coco.score
        keeping = kept[name] = Keeping(scorer)
        accuracy = score(artifact, dataset, config, backend=backend, trust=trust, scorer=keeping)
        rows.append(dataclasses.replace(row_of(name, artifact), accuracy=accuracy, difference=differs.of(keeping)))
    evaluation = evaluation_of(kept, dataset, config.split, judged=rows[-1].name, curves=not official)
    return Scored(rows=rows, evaluation=evaluation, kept=kept)


def write(
    score_all: Callable[[], Scored], models: Sequence[tuple[str, Path]], dataset: Dataset, config: ValConfig, out: Path
) -> Scored:
    """Score, and write what `compare` and `gate` read, the report in all forms, and its plots and images as files.

    Args:
        score_all: does the scoring.
        models: names and files of the models.
        dataset: what they are scored on.
        config: split, thresholds and limits.
        out: the folder to make.

    Raises:
        OutputExists: `out` is there already.
        MissingDependency: the extra `report` is not installed.
    """
    with stage_run("val", config=config, inputs=bench_inputs(models, dataset.as_input()), out=out) as run:
        scored = score_all()
        plain = {"schema": 1, "title": TITLE, "rows": [as_json(row) for row in scored.rows], "notes": []}
        write_json(run.folder / BENCH_FILE, plain)
        write_json(run.folder / FILE, {"schema": 1, **as_json(scored.evaluation)})
        found = {name: one for name, one in scored.kept.items() if not isinstance(one.scorer, Official)}
        if found:  # what COCO's difference from another run's models is taken from
            matches.save(run.folder / matches.FILE, {name: one.matches() for name, one in found.items()})
        report = report_from([run.folder])
        write_report(report, run.folder)
        write_pictures(report, dataset.images(config.split), run.folder)
    return scored


class _Differences:
    """Tells how each model differs from the first one, by the rules that both were scored by."""

    def __init__(self) -> None:
        self._first: Keeping | None = None

    def of(self, other: Keeping) -> Interval | None:
        """Return the difference of a model, or None of the first one."""
        if self._first is None:
            self._first = other
            return None
        one, two = self._first.scorer, other.scorer
        if isinstance(one, Official) and isinstance(two, Official) and one.judged and two.judged:
            return visdrone_bootstrap.paired_bootstrap(one.judged, two.judged)
        return paired_bootstrap(self._first.matches(), other.matches())

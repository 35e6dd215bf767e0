"""How well a changed network finds what the unchanged one finds: no labels are needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slimdeploy.board.boxes import Detections
from slimdeploy.board.decode import overlaps
from slimdeploy.records import ClassAgreement, DetectionAgreement

MATCH_IOU = 0.5


def agreement_of(
    dense: Sequence[Detections],
    changed: Sequence[Detections],
    classes: Sequence[str],
    *,
    map50_95: tuple[float, float] | None = None,
) -> DetectionAgreement:
    """Compare the detections of two networks on the same images.

    Two boxes match where they are of one class, overlap by an IoU of 0.5 or more, and neither matches a better one.

    Args:
        dense: what the unchanged network finds in each image, best score first.
        changed: the same of the other network.
        classes: their names, in label order.
        map50_95: of both networks on these images, where those have labels.
    """
    counts = np.zeros((len(classes), 3), dtype=np.int64)  # dense, changed, matched
    score_changes: list[float] = []
    for ours, theirs in zip(dense, changed, strict=True):
        pairs = matched_pairs(ours, theirs)
        counts[:, 0] += np.bincount(ours.labels, minlength=len(classes))
        counts[:, 1] += np.bincount(theirs.labels, minlength=len(classes))
        counts[:, 2] += np.bincount(ours.labels[[i for i, _ in pairs]], minlength=len(classes))
        score_changes += [abs(float(ours.scores[i]) - float(theirs.scores[j])) for i, j in pairs]
    totals = counts.sum(axis=0).tolist()
    return DetectionAgreement(
        images=len(dense),
        dense=totals[0],
        changed=totals[1],
        matched=totals[2],
        score_change=float(np.mean(score_changes)) if score_changes else 0.0,
        by_class=tuple(
            ClassAgreement(name=name, dense=row[0], changed=row[1], matched=row[2])
            for name, row in zip(classes, counts.tolist(), strict=True)
            if row[0] or row[1]
        ),
        map50_95=map50_95,
    )


def matched_pairs(dense: Detections, changed: Detections) -> list[tuple[int, int]]:
    """Return the positions of the boxes that match, (dense, changed), each box once.

    The changed network's best box chooses first, as detections do in COCO's matching.
    """
    if not len(dense.labels) or not len(changed.labels):
        return []
    iou = overlaps(changed.xyxy, dense.xyxy)  # (changed, dense)
    iou[changed.labels[:, None] != dense.labels[None, :]] = 0.0
    pairs = []
    for j in np.argsort(-changed.scores, kind="stable").tolist():
        i = int(iou[j].argmax())
        if iou[j, i] >= MATCH_IOU:
            pairs.append((i, j))
            iou[:, i] = 0.0
    return pairs

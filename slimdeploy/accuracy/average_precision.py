"""COCO's average precision on any choice of a split's images, from detections that were matched once.

`coco.score` is what figures are reported by; this one weighs images, which a scorer of whole splits cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.matches import Matches

RECALLS = np.linspace(0, 1, 101)  # COCO's

Figures = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]  # (images,): how often each was chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One class's detections over all images, best score first, cut after the last that is right at any IoU.

    Attributes:
        image: number of each one's image; (n,).
        places: positions of those that are right at one IoU or more, rising; (m,).
        right: whether those are right, at each IoU; (IoUs, m).
        objects: objects of the class in each image; (images,).
    """

    image: npt.NDArray[np.int32]
    places: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int32]


def rank(matches: Matches) -> list[Ranked]:
    """Return a model's detections class by class, in the order of their numbers."""
    order = np.argsort(-matches.scores, kind="stable")
    right = matches.right[:, order]
    found = []
    for label, objects in enumerate(matches.objects.T):
        own = np.flatnonzero(matches.labels[order] == label)
        places = np.flatnonzero(right[:, own].any(axis=0))
        image = matches.image[order[own[: places[-1] + 1]]] if len(places) else np.empty(0, dtype=np.int32)
        found.append(Ranked(image=image, places=places, right=right[:, own[places]], objects=objects))
    return found


def mean_ap(ranked: list[Ranked], weights: Weights) -> float:
    """Return the mean over the classes that the chosen images hold."""
    found = [curves(one, weights).mean() for one in ranked if weights @ one.objects]
    return float(np.mean(found)) if found else 0.0


def curves(one: Ranked, weights: Weights) -> Figures:
    """Return the precision envelope of a class at each of COCO's recalls, 0 at those that are never reached.

    Args:
        one: the class's detections; the chosen images hold one or more of its objects.
        weights: how often each image was chosen; (images,).

    Returns:
        Precision; (IoUs, recalls).
    """
    drawn = weights[one.image].cumsum()[one.places]  # (m,)
    right = (one.right * weights[one.image[one.places]]).cumsum(axis=1)  # (IoUs, m)
    precision = right / np.maximum(drawn, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    recall = right / (weights @ one.objects)
    return np.stack([known[np.searchsorted(row, RECALLS)] for known, row in zip(envelope, recall, strict=True)])


def map50_95(matches: Matches, weights: Weights) -> float:
    """Return COCO's mAP50-95 on a choice of images, over the classes that they hold; 0 where they hold no object."""
    return mean_ap(rank(matches), weights)


def precision_at_recalls(matches: Matches) -> Figures:
    """Return the precision at IoU 0.50 at each of COCO's recalls, on all images, mean over classes; (101,)."""
    whole = np.ones(len(matches.objects), dtype=np.int64)
    return np.asarray(np.mean([curves(one, whole)[0] for one in rank(matches) if one.objects.any()], axis=0))

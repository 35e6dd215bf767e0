"""How far a difference of VisDrone's official AP could lie elsewhere had the split held other images.

Ignored regions, the 500 detections and the matching are matters of one image, so that an image is judged once and a
choice of images weighs each by how often it was drawn. What the protocol takes over the whole split is taken anew for
each choice: precision and recall along all detections, and the weight of a class by the images that show it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.bootstrap import POINTS, RESAMPLES, Weights, choices, interval
from slimdeploy.accuracy.visdrone import Judged
from slimdeploy.data.visdrone import CLASSES
from slimdeploy.errors import UsageError
from slimdeploy.records import Interval

log = logging.getLogger("slimdeploy.accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """One class's detections over all images, best score first.

    Attributes:
        image: number of each one's image; (n,).
        places: positions of those that are not simply wrong at every IoU, rising; (m,).
        right: whether those are right, at each IoU; (IoUs, m).
        ignored: whether they lie on an ignored object; (IoUs, m).
        objects: objects of the class in each image; (images,).
    """

    image: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]


def paired_bootstrap(dense: Judged, other: Judged, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Compare the official AP of two models that were scored on the same images.

    Args:
        dense: what is compared with.
        other: what is compared.
        resamples: choices of images, each as many as the split holds, drawn with replacement.
        seed: of the choices.

    Returns:
        The difference (other - dense) in points, with its 95 % percentile interval.

    Raises:
        UsageError: the two were scored on different images.
    """
    if not np.array_equal(dense.objects, other.objects):
        raise UsageError("the two models were scored on different images", wanted="the same split of one data set")
    log.info("comparing the official AP on %d choices of images", resamples)
    images = len(dense.objects)
    ours, theirs = _ranked(dense), _ranked(other)

    def difference(weights: Weights) -> float:
        return POINTS * (_official_ap(theirs, weights) - _official_ap(ours, weights))

    drawn = np.array([difference(weights) for weights in choices(images, resamples, seed)])
    return interval(difference(np.ones(images, dtype=np.int64)), drawn, images=images)


def official_ap(judged: Judged, weights: Weights) -> float:
    """Return the official AP on a choice of images; 0 where they show no object."""
    return _official_ap(_ranked(judged), weights)


def _official_ap(ranked: list[_Ranked], weights: Weights) -> float:
    shown = np.array([weights @ (one.objects > 0) for one in ranked])
    if not shown.any():
        return 0.0
    return float(shown @ [_ap(one, weights) if count else 0.0 for one, count in zip(ranked, shown, strict=True)]) / int(
        shown.sum()
    )


def _ap(one: _Ranked, weights: Weights) -> float:
    """Return the area under the precision envelope, mean over the IoUs.

    Recall rises, and precision is highest, where a detection is right: the wrong ones between are only counted.
    """
    if not len(one.places):
        return 0.0
    drawn = weights[one.image].astype(np.int32)  # (n,); half as wide, since this is done a thousand times
    own = drawn[one.places]  # (m,)
    gained = one.right * own  # (IoUs, m)
    right = gained.cumsum(axis=1, dtype=np.int32)
    counted = drawn.cumsum(dtype=np.int32)[one.places]
    if one.ignored.any():
        counted = counted - (one.ignored * own).cumsum(axis=1, dtype=np.int32)
    precision = right / np.maximum(counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return float(np.vdot(gained, envelope)) / len(one.right) / int(weights @ one.objects)


def _ranked(judged: Judged) -> list[_Ranked]:
    sizes = [len(one.scores) for one in judged.marked]
    image = np.repeat(np.arange(len(sizes)), sizes)
    scores = np.concatenate([one.scores for one in judged.marked])
    category = np.concatenate([one.category for one in judged.marked])
    marks = np.concatenate([one.marks for one in judged.marked], axis=1)  # (IoUs, n)
    found = []
    for k in range(len(CLASSES)):
        own = np.flatnonzero(category == k + 1)
        own = own[np.argsort(-scores[own], kind="stable")]
        places = np.flatnonzero((marks[:, own] != 0).any(axis=0))
        told = marks[:, own[places]]
        last = int(places[-1]) + 1 if len(places) else 0
        found.append(
            _Ranked(
                image=image[own[:last]], places=places, right=told == 1, ignored=told == -1,
                objects=judged.objects[:, k],
            )
        )  # fmt: skip
    return found

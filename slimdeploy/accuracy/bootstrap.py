"""How far a difference of mAP50-95 could lie elsewhere had the split held other images: the paired bootstrap.

A model's boxes in an image are matched once, and a choice of images weighs each image by how often it was drawn. Both
models are scored on the same choices, so that an image that is hard for both moves neither's lead. The interval covers
which images were scored; it does not cover which seed the models were trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.matches import Matches
from slimdeploy.errors import UsageError
from slimdeploy.records import Interval

RESAMPLES = 1000
CONFIDENCE = 0.95
POINTS = 100  # in a mAP of 1
RECALLS = np.linspace(0, 1, 101)  # COCO's

Figures = npt.NDArray[np.float64]
Weights = npt.NDArray[np.int64]  # (images,): how often each was drawn


def paired_bootstrap(dense: Matches, other: Matches, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Compare the mAP50-95 of two models that were scored on the same images.

    Args:
        dense: what is compared with.
        other: what is compared.
        resamples: choices of images, each as many as the split holds, drawn with replacement.
        seed: of the choices.

    Returns:
        The difference (other - dense) in points, with its 95 % percentile interval.

    Raises:
        UsageError: the two were scored on different images or labels.

    Source: Efron (1979), Bootstrap methods: another look at the jackknife.
    """
    if dense.truths != other.truths:
        raise UsageError(
            "the two models were scored on different images or labels",
            wanted="the same split of the same data set",
            do="name both to one slimdeploy bench --data",
        )
    ours, theirs = resampled(dense, resamples=resamples, seed=seed), resampled(other, resamples=resamples, seed=seed)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(POINTS * (theirs - ours), [tail, 100 - tail])
    whole = np.ones(len(dense.objects), dtype=np.int64)
    points = POINTS * (map50_95(other, whole) - map50_95(dense, whole))
    return Interval(points=points, low=float(low), high=float(high), images=len(whole), resamples=resamples)


def resampled(matches: Matches, *, resamples: int = RESAMPLES, seed: int = 0) -> Figures:
    """Return the mAP50-95 on each choice of images; the same seed makes the same choices; (resamples,)."""
    rng, images = np.random.default_rng(seed), len(matches.objects)
    ranked = _ranked(matches)
    choices = (np.bincount(rng.integers(0, images, images), minlength=images) for _ in range(resamples))
    return np.array([_mean_ap(ranked, weights) for weights in choices])


def map50_95(matches: Matches, weights: Weights) -> float:
    """Return COCO's mAP50-95 on a choice of images, over the classes that they hold; 0 where they hold no object."""
    return _mean_ap(_ranked(matches), weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
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


def _ranked(matches: Matches) -> list[_Ranked]:
    order = np.argsort(-matches.scores, kind="stable")
    right = matches.right[:, order]
    found = []
    for label, objects in enumerate(matches.objects.T):
        own = np.flatnonzero(matches.labels[order] == label)
        places = np.flatnonzero(right[:, own].any(axis=0))
        image = matches.image[order[own[: places[-1] + 1]]] if len(places) else np.empty(0, dtype=np.int32)
        found.append(_Ranked(image=image, places=places, right=right[:, own[places]], objects=objects))
    return found


def _mean_ap(ranked: list[_Ranked], weights: Weights) -> float:
    """Return the mean over the classes that the chosen images hold."""
    found = [_ap(one, weights, count) for one in ranked if (count := int(weights @ one.objects))]
    return float(np.mean(found)) if found else 0.0


def _ap(one: _Ranked, weights: Weights, objects: int) -> float:
    """Return a class's mean AP over all IoUs: the mean of the precision envelope at COCO's recalls."""
    drawn = weights[one.image].cumsum()[one.places]  # (m,)
    right = (one.right * weights[one.image[one.places]]).cumsum(axis=1)  # (IoUs, m)
    precision = right / np.maximum(drawn, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))  # 0 at recalls that are never reached
    recall = right / objects
    return float(np.mean([known[np.searchsorted(row, RECALLS)] for known, row in zip(envelope, recall, strict=True)]))

"""How far a difference of mAP50-95 could lie elsewhere had the split held other images: the paired bootstrap.

A model's boxes in an image are matched once, and a choice of images weighs each image by how often it was drawn. Both
models are scored on the same choices, so that an image that is hard for both moves neither's lead. The interval covers
which images were scored; it does not cover which seed the models were trained with.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.average_precision import Figures, map50_95, mean_ap, rank
from slimdeploy.accuracy.matches import Matches
from slimdeploy.errors import UsageError
from slimdeploy.records import Interval

Weights = npt.NDArray[np.int64]  # (images,): how often each was chosen
RESAMPLES = 1000
CONFIDENCE = 0.95
POINTS = 100  # in a mAP of 1


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
    whole = np.ones(len(dense.objects), dtype=np.int64)
    points = POINTS * (map50_95(other, whole) - map50_95(dense, whole))
    return interval(points, POINTS * (theirs - ours), images=len(whole))


def resampled(matches: Matches, *, resamples: int = RESAMPLES, seed: int = 0) -> Figures:
    """Return the mAP50-95 on each choice of images; the same seed makes the same choices; (resamples,)."""
    ranked = rank(matches)
    return np.array([mean_ap(ranked, weights) for weights in choices(len(matches.objects), resamples, seed)])


def choices(images: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Give choices of images, drawn with replacement: how often each was drawn, (images,)."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images).astype(np.int64)


def interval(points: float, drawn: npt.NDArray[np.float64], *, images: int) -> Interval:
    """Return a difference with its percentile interval.

    Args:
        points: the difference on all images.
        drawn: the difference on each choice of images, in points; (resamples,).
        images: how many were scored.
    """
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(points=points, low=float(low), high=float(high), images=images, resamples=len(drawn))

"""Measure how far the activations of a graph reach, and choose by one of four rules where int8 cuts them off.

All rules read the same histograms, gathered in one pass: min-max is the largest magnitude seen, percentile leaves
out one value in ten thousand, entropy and MSE look for the cut that changes the distribution or the values least.
ONNX Runtime's own calibrators know no MSE and keep the activations of all images in memory, several gigabytes for 512.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from slimdeploy._progress import Progress
from slimdeploy.backends.protocol import INPUT

log = logging.getLogger("slimdeploy.export")

BINS = 2048
LEVELS = 128  # magnitudes that a symmetric int8 tells apart
STEP = 16  # bins between two cuts that are tried
PERCENTILE = 0.9999
SAMPLE = 65536  # values of one tensor and image that enter its histogram; its peak is of all of them

Counts = NDArray[np.int64]


class Histogram:
    """Magnitudes of one activation over many images, in equal bins from 0 up.

    Attributes:
        peak: largest magnitude seen.
        counts: values in each bin; shape (BINS,).
        top: upper edge of the last bin; it doubles, and bins are joined in pairs, when a larger value comes.
    """

    def __init__(self) -> None:
        self.peak, self.top = 0.0, 0.0
        self.counts: Counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in one tensor."""
        magnitudes = np.abs(values).ravel()
        self.peak = max(self.peak, float(magnitudes.max(initial=0.0)))
        if self.peak == 0.0:
            return
        self.top = self.top or self.peak
        while self.top < self.peak:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        stride = -(-magnitudes.size // SAMPLE) | 1  # odd, so that it does not hit the same columns in every row
        positions = (magnitudes[::stride] * (BINS / self.top)).astype(np.int64)
        self.counts += np.bincount(np.minimum(positions, BINS - 1), minlength=BINS)


def _percentile(counts: Counts) -> int:
    return int(np.searchsorted(np.cumsum(counts), PERCENTILE * counts.sum())) + 1


def _least(counts: Counts, loss: Callable[[Counts, int], float]) -> int:
    """The cut with the least loss, out of every `STEP`th."""
    cuts = range(LEVELS, BINS + 1, STEP)
    return min(cuts, key=lambda cut: loss(counts, cut))


def _squared_error(counts: Counts, cut: int) -> float:
    """What rounding and cutting cost, over all values; in bins squared."""
    centres = np.arange(BINS) + 0.5
    width = cut / (LEVELS - 1)
    rounded = np.minimum(np.rint(centres / width), LEVELS - 1) * width
    return float((counts * (centres - rounded) ** 2).sum())


def _divergence(counts: Counts, cut: int) -> float:
    """Kullback-Leibler divergence of the distribution at `LEVELS` levels from the one that is only cut off.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    kept = counts[:cut].astype(np.float64)
    starts = np.arange(LEVELS) * cut // LEVELS
    filled = (kept > 0).astype(np.float64)
    sums, shares = np.add.reduceat(kept, starts), np.maximum(np.add.reduceat(filled, starts), 1.0)
    spread = np.repeat(sums / shares, np.diff([*starts, cut])) * filled
    kept[-1] += counts[cut:].sum()
    real, coarse = kept / kept.sum(), spread / max(spread.sum(), 1.0)
    both = (real > 0) & (coarse > 0)
    lost = float(real[(real > 0) & (coarse == 0)].sum())
    return float((real[both] * np.log(real[both] / coarse[both])).sum()) + lost * math.log(BINS)


_CUTS: Mapping[str, Callable[[Counts], int]] = {
    "percentile": _percentile,
    "entropy": lambda counts: _least(counts, _divergence),
    "mse": lambda counts: _least(counts, _squared_error),
}


def limit(histogram: Histogram, rule: str) -> float:
    """Return the magnitude at which int8 cuts an activation off.

    Args:
        histogram: of its magnitudes.
        rule: `minmax`, `percentile`, `entropy` or `mse`.
    """
    if rule == "minmax" or not histogram.counts.any():
        return histogram.peak
    return min(histogram.peak, _CUTS[rule](histogram.counts) * histogram.top / BINS)


def observe(model: ModelProto, tensors: Sequence[str], inputs: Iterable[NDArray[np.float32]]) -> dict[str, Histogram]:
    """Run a graph over some inputs and return a histogram of each activation asked for.

    Args:
        model: a float32 graph; it is not changed.
        tensors: names of activations, the input among them or not.
        inputs: batches, each of shape (B, 3, H, W).
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    inner = [name for name in tensors if name != INPUT]
    given = {o.name for o in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner if name not in given
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = {name: Histogram() for name in tensors}
    far = Progress(log, "export: calibrating, {done} calls done", total=len(inputs) if isinstance(inputs, Sized) else 0)
    for number, images in enumerate(inputs, start=1):
        outputs = dict(zip(inner, session.run(inner, {INPUT: images}), strict=True))
        for name, histogram in found.items():
            histogram.add(images if name == INPUT else outputs[name])
        far.at(number)
    return found

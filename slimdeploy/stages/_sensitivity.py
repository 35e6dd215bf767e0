"""Hold an int8 graph to its accuracy: return layers to float until it loses no more than allowed.

Every layer is quantised alone, and what that does to boxes and scores is its damage. Layers return in the order of
damage for each share of the arithmetic that they give up, so that accuracy comes back at the least cost of speed; the
arithmetic stands for latency, which a board would have to measure. How many must return is found by scoring.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from slimdeploy._progress import Progress
from slimdeploy.backends.onnx_graph import macs_by_node
from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.errors import GateError
from slimdeploy.stages import _int8
from slimdeploy.stages._float16 import KeptFloat

log = logging.getLogger("slimdeploy.export")

RETURNED = "returned to float for accuracy"
LEAST_SHARE = 0.001  # of the arithmetic; a residual sum has none, and is not free for all that
CONF = 0.05  # anchors that score less give no box that counts in practice
AT_LEAST = 20  # best anchors of an image that count in any case
POINTS = 100.0  # points in a mAP of 1

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution or residual sum, and what quantising it alone does.

    Attributes:
        node: its name in the graph.
        damage: mean loss of box overlap plus mean change of score, over the boxes that count.
        share: of the network's multiply-accumulates that returning it to float gives up.
    """

    node: str
    damage: float
    share: float

    @property
    def worth(self) -> float:
        """Damage mended for each share of arithmetic given up."""
        return self.damage / max(self.share, LEAST_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The outcome: which layers return, and what was scored on the way.

    Attributes:
        fp32: mAP50-95 of the float32 graph.
        int8: mAP50-95 of the int8 graph as it was found to hold.
        returned: layers that return to float, the worthiest first.
        layers: every layer in order of worth; empty where nothing had to return.
        tries: mAP50-95 by the number of layers returned.
    """

    fp32: float
    int8: float
    returned: tuple[Layer, ...] = ()
    layers: tuple[Layer, ...] = ()
    tries: Mapping[int, float]

    @property
    def keep(self) -> tuple[KeptFloat, ...]:
        """The nodes that stay float, with the reason."""
        return tuple(KeptFloat(node=layer.node, why=RETURNED) for layer in self.returned)

    def as_record(self) -> dict[str, Any]:
        """Return the sensitivity list as JSON, the layers that return first."""
        names = {layer.node for layer in self.returned}
        layers = [dataclasses.asdict(layer) | {"returned": layer.node in names} for layer in self.layers]
        return {"layers": layers, "map50_95_by_layers_returned": {str(k): v for k, v in sorted(self.tries.items())}}


def rank(model: ModelProto, limits: Mapping[str, float], inputs: Sequence[Array]) -> tuple[Layer, ...]:
    """Return every layer that int8 can take, the one whose return mends most for its arithmetic first.

    Args:
        model: the float32 graph.
        limits: of its activations.
        inputs: training images in batches, each (B, 3, H, W).
    """
    names, by_output = _int8.quantisable(model), macs_by_node(model)
    macs = {node.name: by_output[node.output[0]] for node in model.graph.node if node.output[0] in by_output}
    expected, total = _outputs(model, inputs), sum(macs.values())
    layers = []
    far = Progress(log, "export: sensitivity of {done} of {total} layers known", total=len(names))
    for number, name in enumerate(names, start=1):
        alone = _int8.quantised(model, limits, [other for other in names if other != name])
        found = damage(zip(expected, _outputs(alone, inputs), strict=True))
        layers.append(Layer(node=name, damage=found, share=macs.get(name, 0) / total))
        far.at(number)
    return tuple(sorted(layers, key=lambda layer: (-layer.worth, layer.node)))


def _outputs(model: ModelProto, inputs: Sequence[Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [image for images in inputs for image in session.run([OUTPUT], {INPUT: images})[0]]


def damage(pairs: Iterable[tuple[Array, Array]]) -> float:
    """Return the mean loss of box overlap plus the mean change of the best score, over the boxes that count.

    Args:
        pairs: for each image, the output expected and the one found; each (4 + classes, anchors).
    """
    losses = []
    for expected, found in pairs:
        best = expected[4:].max(axis=0)  # (anchors,)
        count = max(AT_LEAST, int((best >= CONF).sum()))
        chosen = np.argsort(-best, kind="stable")[:count]
        overlap = _overlap(expected[:4, chosen], found[:4, chosen])
        losses.append(1 - overlap + np.abs(expected[4:, chosen] - found[4:, chosen]).max(axis=0))
    return float(np.concatenate(losses).mean())


def _overlap(one: Array, other: Array) -> Array:
    """Intersection over union of boxes given as centre and size; both (4, n)."""
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    shared = np.clip(high - low, 0, None).prod(axis=0)
    return np.asarray(shared / np.maximum(one[2:].prod(axis=0) + other[2:].prod(axis=0) - shared, 1e-9))


def hold(
    fp32: float,
    score: Callable[[Sequence[str]], float],
    layers: Callable[[], Sequence[Layer]],
    *,
    max_drop: float,
    max_float_share: float,
) -> Held:
    """Find the fewest layers whose return to float holds the accuracy.

    Args:
        fp32: mAP50-95 of the float32 graph.
        score: gives the mAP50-95 of the int8 graph with some nodes kept float.
        layers: gives the ranked layers; called only where int8 alone does not hold.
        max_drop: points of mAP50-95 that int8 may lose.
        max_float_share: largest share of the arithmetic that may return.

    Raises:
        GateError: no return within that share holds it.
    """
    tries = {0: score(())}

    def holds(count: int) -> bool:
        if count not in tries:
            tries[count] = score([layer.node for layer in ranked[:count]])
            log.info("export: %d layers in float, mAP50-95 %.4f of %.4f", count, tries[count], fp32)
        return (fp32 - tries[count]) * POINTS <= max_drop

    ranked: Sequence[Layer] = ()
    if holds(0):
        return Held(fp32=fp32, int8=tries[0], tries=tries)
    log.info("export: int8 drops from %.4f to %.4f; looking for the layers that cost it", fp32, tries[0])
    ranked = layers()
    most = _affordable(ranked, max_float_share)
    low, high = 0, 1
    while not holds(min(high, most)):
        if high >= most:
            raise _cannot_hold(fp32, tries, max_drop, max_float_share)
        low, high = high, high * 2
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return Held(fp32=fp32, int8=tries[high], returned=tuple(ranked[:high]), layers=tuple(ranked), tries=tries)


def _affordable(ranked: Sequence[Layer], max_float_share: float) -> int:
    """How many of the ranked layers may return before too little is left in int8."""
    shares = np.cumsum([layer.share for layer in ranked])
    return max(1, int((shares <= max_float_share).sum()))


def _cannot_hold(fp32: float, tries: Mapping[int, float], max_drop: float, share: float) -> GateError:
    best = max(tries.values())
    return GateError(
        f"int8 loses {(fp32 - tries[0]) * POINTS:.2f} points of mAP50-95 ({fp32:.4f} to {tries[0]:.4f}), and still "
        f"{(fp32 - best) * POINTS:.2f} with up to {share:.0%} of the arithmetic back in float",
        wanted=f"at most {max_drop:g} points",
        do="try another --calibrator or more --calibration-images, allow more with --max-drop, or export fp16",
    )

"""Hold an int8 graph to its accuracy: return layers to float until it loses no more than allowed.

Every layer is quantised alone, and what that does to boxes and scores is its damage. Errors of many layers add up as
their squares do, so layers return in the order of squared damage for each share of the arithmetic that they give up:
accuracy comes back at the least cost of speed. The arithmetic stands for latency, which a board would have to measure.

How many return is decided on training images, by the damage of the whole graph with so many of them in float: a smooth
figure, where mAP on a few hundred images moves by chance. The result is then judged once or a few times on the val
split, by the paired interval of its difference.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from slimdeploy._progress import Progress
from slimdeploy.backends.onnx_graph import macs_by_node
from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.errors import GateError
from slimdeploy.records import Interval
from slimdeploy.stages import _int8
from slimdeploy.stages._float16 import KeptFloat

log = logging.getLogger("slimdeploy.export")

RETURNED = "returned to float for accuracy"
LEAST_SHARE = 0.001  # of the arithmetic; a residual sum has none, and is not free for all that
CONF = 0.05  # anchors that score less give no box that counts in practice
AT_LEAST = 20  # best anchors of an image that count in any case
LOOKS = 3  # judgements on the val split beside that of int8 alone, so that chance does not pass what one look refused
WORTHWHILE = 0.05  # of the damage of int8 alone: layers that lower it by less do not help

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
        """Squared damage avoided for each share of arithmetic given up."""
        return self.damage**2 / max(self.share, LEAST_SHARE)


class Judge(Protocol):
    """Scores int8 graphs on the val split; differences are in points of mAP50-95 with their paired intervals."""

    def drop(self, keep: Sequence[str]) -> Interval:
        """Return what the float32 graph is ahead of the int8 graph with some nodes kept float."""

    def gain(self, keep: Sequence[str]) -> Interval:
        """Return what the int8 graph with some nodes kept float is ahead of the one without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The outcome: which layers return, and what was measured on the way.

    Attributes:
        drop: points of mAP50-95 that the int8 graph loses as it is held, on the val split.
        returned: layers that return to float, the worthiest first.
        layers: every layer in order of worth; empty where nothing had to return.
        damages: damage of the whole graph on training images by the number of layers returned.
        drops: points lost on the val split by the number of layers returned.
    """

    drop: Interval
    returned: tuple[Layer, ...] = ()
    layers: tuple[Layer, ...] = ()
    damages: Mapping[int, float] = field(default_factory=dict)
    drops: Mapping[int, Interval]

    @property
    def keep(self) -> tuple[KeptFloat, ...]:
        """The nodes that stay float, with the reason."""
        return tuple(KeptFloat(node=layer.node, why=RETURNED) for layer in self.returned)

    def as_record(self) -> dict[str, Any]:
        """Return the sensitivity list as JSON, the layers that return first."""
        names = {layer.node for layer in self.returned}
        return {
            "layers": [dataclasses.asdict(layer) | {"returned": layer.node in names} for layer in self.layers],
            "damage_by_layers_returned": {str(count): damage for count, damage in sorted(self.damages.items())},
            "drop_by_layers_returned": {
                str(count): {"points": drop.points, "low": drop.low, "high": drop.high}
                for count, drop in sorted(self.drops.items())
            },
        }


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


class JointDamage:
    """The damage of a whole int8 graph with some layers in float.

    Args:
        model: the float32 graph.
        limits: of its activations.
        inputs: training images in batches, each (B, 3, H, W).
    """

    def __init__(self, model: ModelProto, limits: Mapping[str, float], inputs: Sequence[Array]) -> None:
        self._model, self._limits, self._inputs = model, limits, inputs
        self._expected = _outputs(model, inputs)

    def __call__(self, keep: Sequence[str]) -> float:
        """Return the damage with the nodes `keep` in float."""
        if set(keep) >= set(_int8.quantisable(self._model)):
            return 0.0  # nothing is left to quantise, which the quantiser refuses
        quantised = _int8.quantised(self._model, self._limits, list(keep))
        return damage(zip(self._expected, _outputs(quantised, self._inputs), strict=True))


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
    judge: Judge,
    layers: Callable[[], Sequence[Layer]],
    damage_of: Callable[[Sequence[str]], float],
    *,
    max_drop: float,
    max_float_share: float,
) -> Held:
    """Find the fewest layers whose return to float holds the accuracy.

    Args:
        judge: scores int8 graphs on the val split.
        layers: gives the ranked layers; called only where int8 alone does not hold.
        damage_of: gives the damage of the int8 graph with some nodes kept float, on training images.
        max_drop: points of mAP50-95 that int8 may lose.
        max_float_share: largest share of the arithmetic that may return.

    Raises:
        GateError: no return within that share holds it by more than chance.
    """
    drops = {0: judge.drop(())}
    if drops[0].points <= max_drop:
        return Held(drop=drops[0], drops=drops)
    log.info("export: int8 loses %s; looking for the layers that cost it", interval_text(drops[0]))
    ranked = tuple(layers())
    names = [layer.node for layer in ranked]
    curve = _Curve(names, damage_of, most=_affordable(ranked, max_float_share))
    for count in curve.counts(drops[0].points, max_drop)[:LOOKS]:
        drops[count] = judge.drop(names[:count])
        log.info("export: with %d layers in float, int8 loses %s", count, interval_text(drops[count]))
        if drops[count].points <= max_drop and judge.gain(names[:count]).low > 0:
            return Held(
                drop=drops[count], returned=ranked[:count], layers=ranked, damages=curve.damages, drops=drops
            )  # fmt: skip
    raise _cannot_hold(drops, ranked, max_drop)


class _Curve:
    """The damage of the int8 graph on training images, by the number of layers that returned to float."""

    def __init__(self, names: Sequence[str], damage_of: Callable[[Sequence[str]], float], *, most: int) -> None:
        self._names, self._damage_of, self._most = names, damage_of, most
        self.damages: dict[int, float] = {}

    def at(self, count: int) -> float:
        if count not in self.damages:
            self.damages[count] = self._damage_of(self._names[:count])
        return self.damages[count]

    def counts(self, drop_points: float, max_drop: float) -> list[int]:
        """Return how many layers are worth judging, the fewest first.

        The drop is taken to fall as the damage does. Where it never falls far enough, the count with the least damage
        is judged, if that is clearly below the damage of int8 alone.
        """
        wanted = self.at(0) * max_drop / drop_points
        tried = self._doublings(wanted)
        enough = next((count for count in tried if self.at(count) <= wanted), None)
        if enough is None:
            best = min(tried, key=self.at)
            return [best] if self.at(best) < (1 - WORTHWHILE) * self.at(0) else []
        first = self._fewest(enough // 2, enough, wanted)
        return sorted({first, *(count for count in (2 * first, 4 * first) if count <= self._most)})

    def _doublings(self, wanted: float) -> list[int]:
        """Try 1, 2, 4, ... layers until the damage is as wanted, or two more steps did not help."""
        tried: list[int] = []
        for step in itertools.count():
            tried.append(min(2**step, self._most))
            idle = len(tried) > 2 and self.at(tried[-1]) > self.at(tried[-3]) - WORTHWHILE * self.at(0)
            if self.at(tried[-1]) <= wanted or idle or tried[-1] == self._most:
                return tried
        raise AssertionError("unreachable")

    def _fewest(self, low: int, high: int, wanted: float) -> int:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.at(middle) <= wanted else (middle, high)
        return high


def _affordable(ranked: Sequence[Layer], max_float_share: float) -> int:
    """How many of the ranked layers may return before too little is left in int8."""
    shares = np.cumsum([layer.share for layer in ranked])
    return max(1, int((shares <= max_float_share).sum()))


def interval_text(drop: Interval) -> str:
    """Return a loss with its interval, for a person."""
    return f"{drop.points:.2f} points of mAP50-95 [{drop.low:.2f}, {drop.high:.2f}]"


def _cannot_hold(drops: Mapping[int, Interval], ranked: Sequence[Layer], max_drop: float) -> GateError:
    tried = [
        f"with {count} layers ({sum(layer.share for layer in ranked[:count]):.0%} of the arithmetic) in float "
        f"{drop.points:.2f} [{drop.low:.2f}, {drop.high:.2f}]"
        for count, drop in sorted(drops.items())
        if count
    ]
    further = f"; {', '.join(tried)}" if tried else ", and no layer's return to float lowers its error by much"
    accepted = math.ceil(10 * drops[0].points) / 10
    return GateError(
        f"int8 loses {interval_text(drops[0])}, over {drops[0].images} images{further}",
        wanted=f"at most {max_drop:g} points, by layers whose return shows a gain",
        do=f"take int8 as it is with --max-drop {accepted:g}, export fp16, or try another --calibrator or more "
        "--calibration-images",
    )

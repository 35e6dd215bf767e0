"""Which detections are right, image by image: what the accuracy on any choice of a split's images is computed from."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt

from slimdeploy.accuracy.boxes import Scorer, Scores, Truths
from slimdeploy.accuracy.visdrone_match import IOUS, mark
from slimdeploy.board.boxes import Detections
from slimdeploy.errors import UsageError
from slimdeploy.files import MALFORMED, why_malformed

FILE = "matches.npz"  # beside bench.json
LIMIT_BYTES = 4 << 30  # unpacked; ten models on VisDrone's test split take some 100 MB
_KINDS = {"image": "i", "labels": "i", "scores": "f", "hits": "u", "objects": "i", "truths": "U"}  # numpy's dtype.kind
_MOST_LABELS, _MOST_OBJECTS = 1 << 15, 1 << 24
_ZIP_ERRORS: tuple[type[Exception], ...] = (
    OSError, EOFError, BadZipFile, zlib.error, struct.error, MemoryError, RuntimeError, SyntaxError, TokenError,
)  # fmt: skip
BITS = np.arange(len(IOUS), dtype=np.uint16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """What became of every detection of one model on one split, matched as COCO matches.

    Attributes:
        image: number of each detection's image, rising; within an image the best score first; (n,).
        labels: class numbers; (n,).
        scores: in 0..1; (n,).
        hits: bit k is set where the detection is right at IOUS[k]; (n,).
        objects: how many objects of each class each image holds; (images, classes).
        truths: SHA-256 of the true boxes; models with the same one were scored on the same images.
    """

    image: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float32]
    hits: npt.NDArray[np.uint16]
    objects: npt.NDArray[np.int32]
    truths: str

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each detection is right at each of IOUS; (IoUs, n)."""
        return np.asarray(self.hits[None, :] >> BITS[:, None] & 1, dtype=np.bool_)


class Keeping:
    """A scorer that keeps what it hands on to another one.

    Attributes:
        detections: of each image, as scored last.
        truths: of each image, as scored last.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.detections: Sequence[Detections] = ()
        self.truths: Sequence[Truths] = ()
        self._max_det = 0

    def __call__(self, detections: Sequence[Detections], truths: Sequence[Truths], max_det: int) -> Scores:
        """Score as the other scorer does."""
        self.detections, self.truths, self._max_det = detections, truths, max_det
        return self.scorer(detections, truths, max_det)

    def matches(self) -> Matches:
        """Return what became of every detection that was scored last."""
        return match_all(self.detections, self.truths, self._max_det)


def match_all(detections: Sequence[Detections], truths: Sequence[Truths], max_det: int) -> Matches:
    """Match the detections of a split with its objects.

    Args:
        detections: boxes found in each image, in pixels of the image file.
        truths: boxes that each image holds.
        max_det: most boxes of one class that count in an image.
    """
    classes = 1 + max((int(truth.labels.max(initial=-1)) for truth in truths), default=-1)
    found = [_match(one, truth, max_det) for one, truth in zip(detections, truths, strict=True)]
    order, hits = zip(*found, strict=True)
    picked = [(one.labels[own], one.scores[own]) for one, own in zip(detections, order, strict=True)]
    return Matches(
        image=np.repeat(np.arange(len(order), dtype=np.int32), [len(own) for own in order]),
        labels=np.concatenate([labels for labels, _ in picked]).astype(np.int16),
        scores=np.concatenate([scores for _, scores in picked]).astype(np.float32),
        hits=np.concatenate(hits),
        objects=np.stack([np.bincount(one.labels, minlength=classes) for one in truths]).astype(np.int32),
        truths=_fingerprint(truths),
    )


def save(path: Path, matches: Mapping[str, Matches]) -> None:
    """Write the matches of several models, by their names, into one file."""
    arrays: dict[str, npt.NDArray[np.generic]] = {"names": np.array(list(matches), dtype=np.str_)}
    for number, one in enumerate(matches.values()):
        arrays |= {f"{number}/{field.name}": np.asarray(getattr(one, field.name)) for field in fields(one)}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's own stub lacks **arrays


def load(path: Path) -> dict[str, Matches]:
    """Read what `save` wrote.

    Raises:
        UsageError: the file is damaged.
    """
    try:
        with path.open("rb") as stream:
            _require_small(stream)
            with np.load(stream, allow_pickle=False) as stored:
                return {str(name): _stored(stored, number) for number, name in enumerate(_names(stored["names"]))}
    except (*MALFORMED, *_ZIP_ERRORS) as error:
        raise UsageError(f"{path} is damaged: {why_malformed(error)}", do="run the bench again") from error


def _require_small(stream: IO[bytes]) -> None:
    with ZipFile(stream) as packed:
        size = sum(one.file_size for one in packed.infolist())
    if size > LIMIT_BYTES:
        raise UsageError(f"it unpacks to {size:,} bytes", wanted=f"at most {LIMIT_BYTES:,}")
    stream.seek(0)


def _names(stored: npt.NDArray[Any]) -> list[str]:
    if stored.ndim != 1 or stored.dtype.kind != "U" or len(set(stored.tolist())) < len(stored):
        raise UsageError("its names are no list of different texts")
    return [str(name) for name in stored]


def _stored(stored: Mapping[str, npt.NDArray[Any]], number: int) -> Matches:
    """Return the matches of one model after checking that their arrays fit together."""
    arrays: dict[str, Any] = {field.name: stored[f"{number}/{field.name}"] for field in fields(Matches)}
    for name, kind in _KINDS.items():
        sides = 2 if name == "objects" else 0 if name == "truths" else 1
        if arrays[name].ndim != sides or arrays[name].dtype.kind != kind:
            raise UsageError(f"{number}/{name} has the form {arrays[name].dtype} {list(arrays[name].shape)}")
    found = Matches(**(arrays | {"truths": str(arrays["truths"])}))
    count, (images, classes) = len(found.image), found.objects.shape
    fits = (
        {len(found.labels), len(found.scores), len(found.hits)} == {count}
        and bool(np.isfinite(found.scores).all())
        and bool((np.diff(found.image) >= 0).all())
        and _within(found.image, 0, images)
        and _within(found.labels, 0, max(classes, _MOST_LABELS))
        and _within(found.objects, 0, _MOST_OBJECTS)
    )
    if not fits:
        raise UsageError(f"the arrays of model {number} do not fit together")
    return found


def _within(values: npt.NDArray[Any], low: int, high: int) -> bool:
    return not values.size or bool(low <= int(values.min()) and int(values.max()) < high)


def _match(found: Detections, truth: Truths, max_det: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """Return the positions of the detections that count, best score first, and their hits; both (n,)."""
    order = np.argsort(-found.scores, kind="stable")
    rank = np.zeros(len(order), dtype=np.int64)  # within its class
    for label in np.unique(found.labels):
        own = found.labels[order] == label
        rank[own] = np.arange(own.sum())
    order = order[rank < max_det]
    marks = mark(_overlaps(found, order, truth), len(truth.labels))  # (IoUs, n)
    return order, np.asarray(((marks == 1) << BITS[:, None]).sum(axis=0), dtype=np.uint16)


def _overlaps(found: Detections, order: npt.NDArray[np.int64], truth: Truths) -> npt.NDArray[np.float64]:
    """Return the IoU of each detection with each object of its class, and 0 between classes; (n, m).

    The steps are those of COCO's own code, so that no rounding decides a match otherwise.
    """
    corners = found.xyxy[order]
    size = (corners[:, 2:] - corners[:, :2]).astype(np.float64)
    low = corners[:, :2].astype(np.float64)
    other_low, other_size = truth.xyxy[:, :2], truth.xyxy[:, 2:] - truth.xyxy[:, :2]
    end, other_end = low + size, other_low + other_size
    shared = np.minimum(end[:, None], other_end[None]) - np.maximum(low[:, None], other_low[None])  # (n, m, 2)
    both = (shared > 0).all(axis=2) & (found.labels[order][:, None] == truth.labels[None, :])
    inside = np.where(both, shared[:, :, 0] * shared[:, :, 1], 0.0)
    area, other_area = size[:, 0] * size[:, 1], other_size[:, 0] * other_size[:, 1]
    joint = area[:, None] + other_area[None] - inside
    return np.divide(inside, joint, out=np.zeros_like(inside), where=both)


def _fingerprint(truths: Sequence[Truths]) -> str:
    digest = hashlib.sha256()
    for one in truths:
        digest.update(repr((one.size, one.labels.tolist(), one.xyxy.tolist())).encode())
    return digest.hexdigest()

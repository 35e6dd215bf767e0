"""All that a runtime must know to join: the protocol that every backend follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from slimdeploy.records import Artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tensors = Mapping[str, "NDArray[Any]"]

INPUT = "images"  # float32 (B, 3, H, W), RGB in 0..1
# float32 (B, 4 + nc, anchors): cx, cy, w, h in input pixels, then scores after the sigmoid. Further rows are the mask
# coefficients of a segmenter, the keypoints of a pose network or the angle of an oriented box; a classifier gives one
# probability a class, (B, nc).
OUTPUT = "output0"
PROTOTYPES = "output1"  # float32 (B, masks, H / 4, W / 4): what a segmenter mixes its masks from


class Session(Protocol):
    """A model that is loaded and ready."""

    def run(self, feeds: Tensors) -> Tensors:
        """Return the outputs by name; blocks until they are ready.

        Args:
            feeds: arrays by input name; a detector takes `INPUT` and gives `OUTPUT`.

        Raises:
            ArtifactError: the model does not take these arrays.
        """

    def close(self) -> None:
        """Give back memory and threads; the session is not used afterwards."""


class Backend(Protocol):
    """A runtime that opens model files.

    Attributes:
        name: as given to `--backend`.
        formats: `Artifact.format` values that it opens.
        version: of the runtime.

    A runtime may also have `parallel`, a truth value: whether sessions of few threads each, side by side in threads of
    one process, answer more images than one session with all threads. Where it is missing, they do not. Where such
    sessions can share the weights, `open_several(artifact, *, count, threads)` gives `count` of them, of `threads`
    threads each. And it may have `profile(artifact, feeds, *, threads, calls)`, which gives a `records.LayerTime` for
    each layer.
    """

    @property
    def name(self) -> str: ...

    @property
    def formats(self) -> frozenset[str]: ...

    @property
    def version(self) -> str: ...

    def open(self, artifact: Artifact, *, threads: int = 0) -> Session:
        """Load a model.

        Args:
            artifact: the file and how to feed it.
            threads: intra-op threads; 0 takes every core this process may use.

        Raises:
            ArtifactError: the runtime cannot open the file.
        """

"""Time layers and whole networks on a board, over the session that ships use; raw samples come home."""

from __future__ import annotations

import base64
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from slimdeploy._needs import needs
from slimdeploy.bench.stats import SIGMAS_PER_MAD, mad
from slimdeploy.configs import LatencyConfig, ShipConfig
from slimdeploy.devices.session import BoardSession
from slimdeploy.devices.transfer import send
from slimdeploy.latency.measure import CALLS
from slimdeploy.latency.shapes import Kind, Widths
from slimdeploy.lineage import sha256_file
from slimdeploy.outputs import scratch_folder

SENT = "graph.onnx"


class BoardTimer:
    """What a board is asked to time.

    Args:
        board: it answers.
        config: precision, threads, and how long each layer is timed.
        shipping: how whole networks are sent, and what must stay free on the board.
    """

    def __init__(self, board: BoardSession, config: LatencyConfig, shipping: ShipConfig) -> None:
        self._board, self._config, self._shipping = board, config, shipping

    def layer(self, kind: Kind, widths: Widths) -> dict[str, Any]:
        """Return what one convolution took: the median, the noise, and every call's seconds."""
        with needs("onnx"):
            from slimdeploy.latency.graphs import write_layer
        with scratch_folder() as folder:
            path = Path(folder) / "layer.onnx"
            write_layer(kind, *widths, path, precision=self._config.precision)
            packed = base64.b64encode(zlib.compress(path.read_bytes())).decode("ascii")
        told = self._ask({"budget_s": self._config.layer_s, "calls": CALLS}, graph=packed)
        samples_s = told["samples_s"]
        return {
            "ms": 1e3 * median(samples_s),
            "noise_ms": 1e3 * SIGMAS_PER_MAD * mad(samples_s),
            "calls": len(samples_s),
            **told,
        }

    def whole(self, path: Path) -> dict[str, Any]:
        """Return what a whole network took; its file goes over as a bundle's do, and is removed from the board after.

        Args:
            path: an ONNX model.
        """
        name = sha256_file(path)
        with scratch_folder() as folder:
            copy = Path(folder) / SENT  # under a name that every board takes, whatever the user's file is called
            shutil.copyfile(path, copy)
            sizes = {SENT: copy.stat().st_size}
            place = self._board.ask("begin", name=name, files=sizes, spare_bytes=self._shipping.spare_mib << 20)
            try:
                send(self._board, {SENT: copy}, place["folder"], place["received"], self._shipping)
                samples = self._config.samples
                return self._ask({"budget_s": 0.0, "calls": (samples, samples)}, file=name)
            finally:
                self._board.ask("forget", name=name)

    def _ask(self, how: Mapping[str, Any], **graph: str) -> dict[str, Any]:
        config, limit_s = self._config, self._config.timeout_s
        asked = {"limit_s": limit_s, "threads": config.threads, "how": {"precision": config.precision, **how}}
        told = self._board.ask("time", timeout_s=limit_s + self._shipping.answer_timeout_s, **asked, **graph)
        return {name: told[name] for name in ("samples_s", "backend", "version", "threads")}

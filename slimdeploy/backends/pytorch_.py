"""PyTorch on the CPU: runs a checkpoint as it is, with BatchNorm folded into the convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slimdeploy._cores import usable_cores
from slimdeploy.backends.protocol import INPUT, Tensors
from slimdeploy.errors import ArtifactError
from slimdeploy.records import Artifact
from slimdeploy.yolo import checkpoint, heads


class PyTorchSession:
    """One folded network in inference mode."""

    def __init__(self, module: Any, path: str) -> None:
        self._module, self._path = module, path

    def run(self, feeds: Tensors) -> Tensors:
        """Return the outputs by name; see `protocol.Session`."""
        try:
            with torch.inference_mode():
                output = self._module(torch.from_numpy(feeds[INPUT]))
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ArtifactError(f"{self._path} does not run in PyTorch: {reason}") from error
        return {name: tensor.numpy() for name, tensor in heads.named_outputs(output).items()}

    def close(self) -> None:
        """Give back the network's memory."""
        self._module = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PyTorch:
    """Opens .pt checkpoints.

    Attributes:
        trust: unpickle whatever the file names; see `yolo.checkpoint.load`.
    """

    name: str = "pytorch"
    formats: frozenset[str] = frozenset({"pt"})
    version: str = torch.__version__
    trust: bool = False
    parallel: bool = True

    def open(self, artifact: Artifact, *, threads: int = 0) -> PyTorchSession:
        """Load a network; see `protocol.Backend`. The thread count holds for the whole process."""
        torch.set_num_threads(threads or usable_cores())
        module, _ = checkpoint.load(Path(artifact.path), trust=self.trust)
        heads.keep_inferring_branch(module)  # as an export does, so that both give the same
        return PyTorchSession(module.fuse(verbose=False), artifact.path)

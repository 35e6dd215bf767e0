"""Open a checkpoint that the user trusts: whatever it names is imported and called, and what fails is told as it is."""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import struct
import warnings
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from ultralytics.nn.tasks import temporary_modules
from ultralytics.utils import LOGGER

from slimdeploy.errors import CheckpointError
from slimdeploy.yolo import archives, refusals

# What torch's unpickler raises on bytes that are no checkpoint, and what classes raise that get a state of another
# version; they trust their input to be well-formed.
_FOREIGN = (
    RuntimeError, EOFError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError,
    ImportError, OSError, struct.error, pickle.UnpicklingError,
)  # fmt: skip
# Names of earlier versions and where they are now, as ultralytics' own loader has them.
_MODULES = {
    "ultralytics.yolo.utils": "ultralytics.utils",
    "ultralytics.yolo.v8": "ultralytics.models.yolo",
    "ultralytics.yolo.data": "ultralytics.data",
}
_ATTRIBUTES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
    "pathlib.WindowsPath": "pathlib.PurePosixPath",
}


def read(stream: BufferedReader, path: Path) -> Any:
    """Return what a file holds; opening it can run any code.

    Args:
        stream: the open file.
        path: its name, for messages.

    Raises:
        CheckpointError: the file is damaged, or needs what is not installed.
    """
    is_archive = archives.require_whole(stream, path)
    stream.seek(0)
    try:
        with _quiet(), temporary_modules(_MODULES, _ATTRIBUTES):
            return torch.load(stream, map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        missing = error.name or str(error).splitlines()[0]
        if missing.startswith("ultralytics."):
            raise refusals.absent(path, missing) from error
        raise CheckpointError(
            f"{path} needs the module {missing}, which is not installed",
            wanted="a .pt file that ultralytics wrote",
            do="install it, or train the network again with the installed ultralytics",
        ) from error
    except _FOREIGN as error:
        lacking = re.search(r"Can't get attribute '([^']+)' on <module '([^']+)'", str(error))
        if isinstance(error, AttributeError) and lacking:
            raise refusals.absent(path, f"{lacking[2]}.{lacking[1]}") from error
        if not is_archive and isinstance(error, (EOFError, RuntimeError, pickle.UnpicklingError)):
            raise refusals.damaged(path) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is whole, but opening it raised {type(error).__name__}: {reason}",
            wanted="a checkpoint of the installed torch and ultralytics",
            do="open it with the versions that wrote it, and save it again",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ultralytics and torch say about a file off stdout and out of the way: errors here say it once."""
    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)

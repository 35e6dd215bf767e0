"""The errors of checkpoints that are not opened, in one place, so that each reason has one wording."""

from __future__ import annotations

import ultralytics

from slimdeploy.board.text import one_line
from slimdeploy.errors import CheckpointError

TRUST = "pass --trust only if you know who made the file: opening it can run any code"
_NAME_LIMIT = 80


def damaged(path: object) -> CheckpointError:
    """Return the error for a file that no program could read."""
    return CheckpointError(
        f"{path} cannot be opened: it is truncated, damaged or no checkpoint",
        wanted="a .pt file that ultralytics wrote",
        do="copy or train it again",
    )


def unknown(path: object, name: str) -> CheckpointError:
    """Return the error for a class or function that a checkpoint has no business with."""
    return CheckpointError(
        f"{path} names {one_line(name, _NAME_LIMIT)}, which is no tensor and no known torch or ultralytics class",
        wanted="a checkpoint that ultralytics wrote",
        do=TRUST,
    )


def absent(path: object, name: str) -> CheckpointError:
    """Return the error for a class that another version or a fork of an installed package has."""
    return CheckpointError(
        f"{path} needs {one_line(name, _NAME_LIMIT)}, which the installed ultralytics {ultralytics.__version__} does "
        "not have; the file is whole",
        wanted="the version or the fork of ultralytics that wrote it",
        do="install that one, or train the network again with the installed ultralytics",
    )


def called(path: object, name: str) -> CheckpointError:
    """Return the error for a file that wants a known class or function called in a way that nothing stored needs."""
    return CheckpointError(
        f"{path} asks to call {one_line(name, _NAME_LIMIT)} while it is opened",
        wanted="a checkpoint whose layers and tensors are stored, so that nothing is called",
        do=TRUST,
    )


def beyond(path: object, what: str, wanted: str) -> CheckpointError:
    """Return the error for a file that is larger, deeper or wider than any network.

    Args:
        path: the file.
        what: what it holds or asks for.
        wanted: the limit.
    """
    return CheckpointError(
        f"{path} {what}", wanted=wanted, do="take a checkpoint that ultralytics wrote, or pass --trust if you made it"
    )

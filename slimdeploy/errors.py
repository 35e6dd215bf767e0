"""Every error that slimdeploy raises on purpose, and the exit code each one ends the process with.

SlimdeployError                1  the work failed
├── StageFailed                1  a stage could not finish (disk, foreign library)
├── UsageError                 2  something was asked wrongly
│   ├── CheckpointError        2  a weights file is missing, damaged, unsafe or no YOLO
│   ├── DataError              2  a data set is missing, empty or mislabelled
│   ├── TargetError            2  a target is unknown or its file is wrong
│   ├── ArtifactError          2  an exported model or bundle is missing or wrong
│   └── OutputExists           2  the output is there already
├── MissingDependency          3  an extra is not installed
├── DeviceError                4  a device or a worker process failed
└── GateError                  5  a measured figure does not meet what was asked
"""

from __future__ import annotations

from typing import ClassVar

from slimdeploy.board.text import one_line

INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells expect


class SlimdeployError(Exception):
    """The work failed; `str(error)` is one line that a user can act on.

    What it quotes may come from a file that somebody else wrote: each part is cut and shown without control characters.

    Args:
        wrong: what was wrong.
        wanted: what was wanted instead.
        do: what to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, wrong: str, *, wanted: str = "", do: str = "") -> None:
        self.wrong, self.wanted, self.do = one_line(wrong), one_line(wanted), one_line(do)
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [self.wrong]
        if self.wanted:
            parts.append(f"wanted: {self.wanted}")
        if self.do:
            parts.append(f"do: {self.do}")
        return "; ".join(parts)

    def as_json(self) -> dict[str, str | int]:
        """Return the error as the object that `--json` prints."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "wrong": self.wrong,
            "wanted": self.wanted,
            "do": self.do,
        }


class StageFailed(SlimdeployError):
    """A stage could not finish for a reason outside the request."""


class UsageError(SlimdeployError):
    """Something was asked wrongly."""

    exit_code: ClassVar[int] = 2


class CheckpointError(UsageError):
    """A weights file is missing, damaged, unsafe to open or not a YOLO."""


class DataError(UsageError):
    """A data set is missing, empty or mislabelled."""


class TargetError(UsageError):
    """A target is unknown, or its file is wrong."""


class ArtifactError(UsageError):
    """An exported model or a bundle is missing, damaged or made elsewhere."""


class OutputExists(UsageError):
    """The output is there already; nothing is ever overwritten."""


class MissingDependency(SlimdeployError):
    """A verb needs an extra that is not installed."""

    exit_code: ClassVar[int] = 3


class DeviceError(SlimdeployError):
    """A device, or the worker process that stands for one, failed."""

    exit_code: ClassVar[int] = 4


class GateError(SlimdeployError):
    """A figure was measured and does not meet what was asked."""

    exit_code: ClassVar[int] = 5

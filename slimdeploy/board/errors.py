"""The errors of the agent: the same kinds, exit codes and JSON as `slimdeploy.errors`, which stays on the desk.

AgentError               1  the work failed
├── UsageError           2  something was asked wrongly
│   └── ArtifactError    2  a bundle, a model or an engine is missing or wrong
├── MissingDependency    3  a package is not installed on the board
├── DeviceError          4  the board or its runtime failed
└── GateError            5  a figure or the golden sample does not meet what was asked
"""

from __future__ import annotations

from typing import ClassVar

from slimdeploy.board.text import one_line

SCHEMA = 1  # of every JSON object that the agent prints
INTERRUPTED_EXIT_CODE = 130  # 128 + SIGINT, as shells expect
TERMINATED_EXIT_CODE = 143  # 128 + SIGTERM


class AgentError(Exception):
    """The work failed; `str(error)` is one line that a user can act on.

    Args:
        wrong: what was wrong.
        wanted: what was wanted instead.
        do: what to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, wrong: str, *, wanted: str = "", do: str = "") -> None:
        self.wrong, self.wanted, self.do = one_line(wrong), one_line(wanted), one_line(do)
        named = [self.wrong, f"wanted: {self.wanted}" if wanted else "", f"do: {self.do}" if do else ""]
        super().__init__("; ".join(part for part in named if part))

    def as_json(self) -> dict[str, str | int]:
        """Return the error as the object that `--json` prints."""
        return {
            "schema": SCHEMA,
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "wrong": self.wrong,
            "wanted": self.wanted,
            "do": self.do,
        }


class UsageError(AgentError):
    """Something was asked wrongly."""

    exit_code: ClassVar[int] = 2


class ArtifactError(UsageError):
    """A bundle, a model or an engine is missing, damaged or of another version."""


class MissingDependency(AgentError):
    """A package that the work needs is not installed on the board."""

    exit_code: ClassVar[int] = 3


class DeviceError(AgentError):
    """The board or its runtime failed."""

    exit_code: ClassVar[int] = 4


class GateError(AgentError):
    """What was measured does not meet what was asked."""

    exit_code: ClassVar[int] = 5

"""Where the board's files and programs are: the real system, or a recorded root that stands for a board in tests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from slimdeploy.board.errors import DeviceError
from slimdeploy.board.text import SHOWN, one_line

ROOT_VARIABLE = "SLIMDEPLOY_BOARD_ROOT"  # names a recorded root; whatever is read there is marked as simulated
PROGRAM_FOLDERS = ("usr/bin", "usr/sbin", "usr/local/bin", "usr/src/tensorrt/bin", "bin", "sbin")


@dataclass(frozen=True)
class Machine:
    """A board's system.

    Attributes:
        root: the folder below which its files are.
    """

    root: Path = Path("/")

    @property
    def simulated(self) -> bool:
        """Whether recorded files stand for the board."""
        return self.root != Path("/")

    def text(self, path: str) -> str | None:
        """Return what a file holds, without NULs and space at its ends, or None where it cannot be read."""
        try:
            return (self.root / path).read_bytes().decode("utf-8", "replace").strip("\0 \n\t")
        except OSError:
            return None

    def program(self, name: str) -> Path | None:
        """Return the path of one of the board's programs, or None where it has none of that name."""
        found = (self.root / folder / name for folder in PROGRAM_FOLDERS)
        return next((path for path in found if os.access(str(path), os.X_OK)), None)

    def ask(self, name: str, *arguments: str, timeout_s: float = 20.0) -> str:
        """Run one of the board's programs and return what it prints.

        Raises:
            DeviceError: it is missing, fails or does not end in time.
        """
        program = self.program(name)
        if program is None:
            raise DeviceError(f"the board has no {name}", wanted="a Jetson with JetPack")
        try:
            ended = subprocess.run(
                [str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeviceError(f"{name} did not answer: {error}") from error
        said = ended.stdout.decode("utf-8", "replace")
        if ended.returncode != 0:
            raise DeviceError(f"{name} {' '.join(arguments)} failed: {_last_line(said)}", do="run it as root")
        return said


def this_machine(environment: Mapping[str, str]) -> Machine:
    """Return the machine that an environment names: the real one, unless `SLIMDEPLOY_BOARD_ROOT` names a root."""
    return Machine(Path(environment[ROOT_VARIABLE]) if environment.get(ROOT_VARIABLE) else Path("/"))


def _last_line(text: str) -> str:
    return one_line((text.strip() or "no word").split("\n")[-1], SHOWN)

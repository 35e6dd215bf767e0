"""Set a Jetson's power mode and lock its clocks for a measurement, and leave the board as it was found."""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from slimdeploy.board.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from slimdeploy.board.machine import Machine

_MODE = re.compile(r"POWER_MODEL\s+ID=([0-9]{1,6})\s+NAME=(\S+)")
_NUMBER = re.compile(r"[0-9]{1,6}\Z")
SWITCH_S = 60.0


def modes(machine: Machine) -> dict[str, int]:
    """Return the numbers of the power modes by their names; they differ between boards and releases."""
    return {name: int(number) for number, name in _MODE.findall(machine.text("etc/nvpmodel.conf") or "")}


def current_mode(machine: Machine) -> int:
    """Return the number of the power mode, which `nvpmodel -q` prints in its last line.

    Raises:
        DeviceError: the board has no nvpmodel, or it tells no number.
    """
    words = machine.ask("nvpmodel", "-q").split()
    if not words or not _NUMBER.match(words[-1]):
        raise DeviceError("nvpmodel -q tells no mode", wanted="its number in the last line")
    return int(words[-1])


@contextlib.contextmanager
def held(machine: Machine, *, mode: str = "", lock_clocks: bool = False) -> Iterator[None]:
    """Hold a power mode and locked clocks during a `with` block; both are put back however it ends.

    Args:
        machine: the board.
        mode: name of a power mode; empty leaves it.
        lock_clocks: keep all clocks at their highest.

    Raises:
        DeviceError: the board has no such program, or refuses: both need root.
        UsageError: the board knows no mode of this name.
    """
    with contextlib.ExitStack() as undo:
        if mode:
            _switch(machine, mode, undo)
        if lock_clocks:
            _lock(machine, undo)
        yield


def _switch(machine: Machine, mode: str, undo: contextlib.ExitStack) -> None:
    known = modes(machine)
    if mode not in known:
        raise UsageError(f"no power mode {mode!r}", wanted=f"one of {', '.join(known) or 'none: this is no Jetson'}")
    found = current_mode(machine)
    if found == known[mode]:
        return
    undo.callback(machine.ask, "nvpmodel", "-m", str(found), timeout_s=SWITCH_S)
    machine.ask("nvpmodel", "-m", str(known[mode]), timeout_s=SWITCH_S)
    if current_mode(machine) != known[mode]:
        raise DeviceError(f"the board did not switch to {mode}", do="switch by hand: some modes need a reboot")


def _lock(machine: Machine, undo: contextlib.ExitStack) -> None:
    stored = Path(undo.enter_context(tempfile.TemporaryDirectory())) / "clocks"
    machine.ask("jetson_clocks", "--store", str(stored))
    undo.callback(machine.ask, "jetson_clocks", "--restore", str(stored), timeout_s=SWITCH_S)
    machine.ask("jetson_clocks", timeout_s=SWITCH_S)

"""The service that runs the current release on a board: a systemd unit, and a udev rule for who wants one.

Both are offered as texts, and written by `install` alone: for root to the system's units, for anybody else to their
own. The unit follows `current`, so a release that becomes the current one is flown by a restart. One with which the
service does not stay up is taken back.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from slimdeploy.board import release
from slimdeploy.board.errors import AgentError, DeviceError, UsageError
from slimdeploy.board.frames import is_live
from slimdeploy.board.machine import Machine
from slimdeploy.board.text import SHOWN

UNIT = "slimdeploy.service"
RULE = "99-slimdeploy.rules"
SETTLE_S = 2.0  # a service that ends within this does not run; systemd starts it again after RESTART_S, which is longer
RESTART_S = 5
_CAMERA = re.compile(r"(?:/dev/video)?([0-9]{1,6})\Z")

UNIT_TEXT = """\
[Unit]
Description=slimdeploy: detections of the current release
StartLimitIntervalSec=0

[Service]
ExecStart={start}
Restart=on-failure
RestartSec={restart_s}
KillSignal=SIGINT
SuccessExitStatus=130
Environment=PYTHONUNBUFFERED=1

[Install]
WantedBy={wanted_by}

[X-Slimdeploy]
Root={root}
Source={source}
"""
RULE_TEXT = (
    'ACTION=="add", SUBSYSTEM=="video4linux", KERNEL=="video{number}", TAG+="systemd", ENV{{SYSTEMD_WANTS}}="{unit}"\n'
)


@dataclass(frozen=True)
class Service:
    """The service of one board's folder.

    Attributes:
        root: the board's folder, absolute.
        machine: the board.
        system: whether it is the system's, which root alone may change; else the user's own.
    """

    root: Path
    machine: Machine
    system: bool

    @property
    def unit(self) -> Path:
        """Where its unit lies."""
        if self.system:
            return self.machine.root / "etc/systemd/system" / UNIT
        return Path(os.path.expanduser("~/.config/systemd/user")) / UNIT  # noqa: PTH111 - the home of who logs in

    @property
    def rule(self) -> Path:
        """Where the udev rule lies."""
        return self.machine.root / "etc/udev/rules.d" / RULE

    def systemctl(self, *arguments: str) -> str:
        """Ask systemd; raise DeviceError if it refuses, or is not there."""
        if self.machine.program("systemctl") is None:
            raise DeviceError("the board has no systemd", wanted="systemctl", do="start agent.pyz run by what it has")
        if self.system:
            return self.machine.ask("systemctl", *arguments)
        # a login without PAM does not say where the user's systemd listens
        os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        return self.machine.ask("systemctl", "--user", *arguments)

    @property
    def active(self) -> bool:
        """Whether it runs now."""
        with contextlib.suppress(DeviceError):
            self.systemctl("is-active", "--quiet", UNIT)
            return True
        return False


def service_of(root: Path, machine: Machine) -> Service | None:
    """Return the service that runs the releases of a folder, or None where none is installed."""
    for system in (False, True):
        one = Service(root=root, machine=machine, system=system)
        if _facts(one.unit).get("Root") == str(root):
            return one
    return None


def told(root: Path, machine: Machine) -> dict[str, Any] | None:
    """Return what is known of a folder's service as a JSON-ready object, or None where there is none."""
    one = service_of(root, machine)
    if one is None:
        return None
    return {
        "unit": str(one.unit),
        "system": one.system,
        "source": _facts(one.unit).get("Source"),
        "active": one.active,
    }


def _require_printable(text: str, what: str) -> None:
    if not text.isprintable():
        raise UsageError(
            f"{what} {text[:SHOWN]!r} holds a control character", wanted="printable characters in one line"
        )


def unit_text(root: Path, source: str, *, system: bool, python: str = sys.executable) -> str:
    """Return the unit that runs the current release of a folder on a live source.

    Raises:
        UsageError: the source is not live, so that the service would end at once; or it, or the board's folder, holds
            a control character, which could add a line to the unit.
    """
    _require_printable(str(root), "the board's folder")
    _require_printable(python, "the path of Python")
    if not is_live(source) or not source.isprintable():
        raise UsageError(
            f"a service cannot watch {source[:SHOWN]!r}", wanted="a camera, a stream's address or a GStreamer pipeline"
        )
    current = root / release.CURRENT
    words = [str(current / "bundle" / "agent.pyz"), "run", source, "--cache", str(current / "engine")]
    return UNIT_TEXT.format(
        start=" ".join([_quoted(python).replace("$$", "$"), *map(_quoted, words)]),  # of a program no variable is read
        restart_s=RESTART_S,
        wanted_by="multi-user.target" if system else "default.target",
        root=root,
        source=source,
    )


def rule_text(source: str) -> str:
    """Return the udev rule that starts the system's service when a camera appears.

    Raises:
        UsageError: the source is no camera of this board.
    """
    camera = _CAMERA.match(source)
    if camera is None:
        raise UsageError(f"no udev rule for {source!r}", wanted="a camera: its number, or /dev/video0")
    return RULE_TEXT.format(number=camera.group(1), unit=UNIT)


def install(root: Path, machine: Machine, source: str, *, udev: bool, system: bool) -> list[str]:
    """Write and enable the unit; it starts with the next release, by `start`, or with the board.

    Returns:
        What the user should know.

    Raises:
        UsageError: the source is not live, or a rule is asked for that root alone may write.
        DeviceError: another folder's service is there, or systemd refuses; then nothing stays behind.
    """
    one = Service(root=root, machine=machine, system=system)
    text, rule = unit_text(root, source, system=system), rule_text(source) if udev else ""
    if udev and not system:
        raise UsageError("udev rules are written by root alone", do="ship as root, or leave out --udev-rule")
    other = _facts(one.unit).get("Root", str(root)) if one.unit.exists() else str(root)
    if other != str(root):
        raise DeviceError(f"the board's service runs {other}", do="remove that one first, with --remove-service")
    had = service_of(root, machine) is not None
    _write(one.unit, text)
    try:
        one.systemctl("daemon-reload")
        one.systemctl("enable", UNIT)
        if rule:
            _write(one.rule, rule)
            machine.ask("udevadm", "control", "--reload")
    except AgentError:
        if not had:
            _undo(one)
        raise
    return [] if system else _lingering(machine)


def remove(root: Path, machine: Machine) -> dict[str, Any]:
    """Stop a folder's service and take its unit and its rule away.

    Raises:
        DeviceError: there is none, or systemd refuses.
    """
    one = service_of(root, machine)
    if one is None:
        raise DeviceError("the board has no service of slimdeploy")
    one.systemctl("disable", "--now", UNIT)
    _undo(one)
    return {"schema": 1, "removed": str(one.unit)}


def start(root: Path, machine: Machine) -> None:
    """Start a folder's service anew, so that it flies the current release; without a service, do nothing.

    Raises:
        DeviceError: systemd refuses, or the service does not stay up.
    """
    one = service_of(root, machine)
    if one is None:
        return
    one.systemctl("restart", UNIT)
    time.sleep(SETTLE_S)
    if not one.active:
        log = "journalctl" + ("" if one.system else " --user") + f" -u {UNIT}"
        raise DeviceError("the service does not stay up", do=f"see why, on the board: {log}")


def activate(root: Path, name: str, machine: Machine) -> dict[str, Any]:
    """Make a release the current one and start the service with it; one that does not stay up is taken back.

    Raises:
        ArtifactError: it is damaged, or not signed as the board asks for now.
        DeviceError: there is no such release, or the service does not run with it; then the one before flies again.
    """
    done = release.activate(root, name)
    one = service_of(root, machine)
    if done["previous"] == name and (one is None or one.active):
        return done
    try:
        start(root, machine)
    except AgentError as error:
        if done["previous"] in (None, name):
            raise DeviceError(f"{error.wrong} with the release {name[:12]}", do=error.do) from error
        try:
            release.rollback(root)
        except AgentError as refused:
            raise DeviceError(f"{error.wrong} with the release {name[:12]}; {refused.wrong}", do=error.do) from error
        with contextlib.suppress(AgentError):  # what is told is why the new one was taken back
            start(root, machine)
        wrong = f"{error.wrong} with the release {name[:12]}; {done['previous'][:12]} flies again"
        raise DeviceError(wrong, wanted=error.wanted, do=error.do) from error
    return done


def rollback(root: Path, machine: Machine) -> dict[str, Any]:
    """Make the release before the current one the current one, and start the service with it."""
    done = release.rollback(root)
    start(root, machine)
    return done


def _facts(unit: Path) -> Mapping[str, str]:
    """What a unit says of itself in the section that systemd passes over."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        section = unit.read_bytes().decode("utf-8").partition("[X-Slimdeploy]\n")[2]
        return dict(line.split("=", 1) for line in section.split("\n") if "=" in line)  # as systemd parts lines
    return {}


def _quoted(word: str) -> str:
    """A word of a command line as systemd reads it back: specifiers, variables and quotes stand for themselves."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _lingering(machine: Machine) -> list[str]:
    """Let the user's services run without a login, so that they start with the board."""
    try:
        machine.ask("loginctl", "enable-linger")
    except DeviceError as error:
        return [f"the service starts only when this user logs in: {error.wrong}; do: sudo loginctl enable-linger USER"]
    return []


def _undo(one: Service) -> None:
    with contextlib.suppress(FileNotFoundError):
        one.unit.unlink()
    with contextlib.suppress(DeviceError):
        one.systemctl("daemon-reload")
    if one.system and one.rule.exists():
        one.rule.unlink()
        with contextlib.suppress(DeviceError):
            one.machine.ask("udevadm", "control", "--reload")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)

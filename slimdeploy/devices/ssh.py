"""The system's own ssh: the user's config, keys, agents and jump hosts all work, since nothing here knows of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from slimdeploy.board.text import SHOWN, one_line
from slimdeploy.configs import ShipConfig
from slimdeploy.devices.address import Address
from slimdeploy.errors import DeviceError

FAILED = 255  # ssh's own exit code; any other is that of the command on the board
ALIVE_TIMES = 3  # unanswered questions after which a connection is given up
SHOWN_LINES = 2

# What ssh says, and what to tell of it: what was wrong, what to do. The first that fits counts.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {board} has changed: another board has its address, or somebody is in between",
        "compare the fingerprints; if the board was set up anew, run ssh-keygen -R {host}",
    ),
    ("Host key verification failed", "the host key of {board} is not known", "log in once: ssh {login}"),
    ("Permission denied", "{board} accepts none of your keys", "give it one: ssh-copy-id {login}"),
    ("Could not resolve hostname", "there is no host called {host}", "check the name, or use the address"),
    ("Connection refused", "{board} runs no ssh server at that port", "check the port, and that sshd runs there"),
    ("timed out", "{board} does not answer", "check that it is on and that the network reaches it"),
    ("No route to host", "no way leads to {board}", "check the network"),
    ("not responding", "{board} does not answer any more", "check that it is on, then run the same command again"),
)


def ssh_command(config: ShipConfig) -> list[str]:
    """Return the start of every ssh command.

    Keys alone are used, since a password would be asked for at each of several connections.

    Raises:
        DeviceError: ssh is not installed.
    """
    program = shutil.which("ssh")
    if program is None:
        how = "add the optional feature OpenSSH Client" if sys.platform == "win32" else "install openssh-client"
        raise DeviceError("ssh is not installed on this machine", wanted="OpenSSH's ssh in PATH", do=how)
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": f"{config.connect_timeout_s:.0f}",
        "ServerAliveInterval": max(1, round(config.stall_timeout_s / ALIVE_TIMES)),
        "ServerAliveCountMax": ALIVE_TIMES,
    }
    return [program, *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def login(address: Address) -> list[str]:
    """Return the arguments that name a board to ssh."""
    return [*(["-p", str(address.port)] if address.port else []), address.destination]


def explain(address: Address, code: int, stderr: str, what: str) -> DeviceError:
    """Return the error that a failed ssh, or a command on the board, comes to.

    Args:
        address: the board.
        code: exit code of ssh.
        stderr: what it said.
        what: what was being done, such as `the transfer`.
    """
    named: Mapping[str, str] = {
        "board": address.text,
        "host": f"'[{address.host}]:{address.port}'" if address.port else address.host,
        "login": " ".join(login(address)),
    }
    for said, wrong, do in _REASONS:
        if said in stderr:
            return DeviceError(wrong.format(**named), do=do.format(**named))
    lines = [one_line(line.strip(), SHOWN) for line in stderr.split("\n") if line.strip()]
    told = f": {' | '.join(lines[-SHOWN_LINES:])}" if lines else ""
    if code == FAILED or code < 0:
        return DeviceError(
            f"the connection to {address.text} broke during {what}{told}",
            do="run the same command again; it goes on where it stopped",
        )
    return DeviceError(f"{what} failed on {address.text}, exit code {code}{told}")

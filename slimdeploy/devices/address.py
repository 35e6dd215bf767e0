"""Where a board is: `ssh://user@board:port/path`, or `local:/path` for this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slimdeploy.board.text import SHOWN
from slimdeploy.errors import UsageError

DEFAULT_ROOT = "slimdeploy"  # below the home of the user on the board
_SSH = re.compile(
    r"ssh://(?:(?P<user>[\w.][\w.-]*)@)?(?P<host>[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.%\w]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/.*)?",
    re.ASCII,
)
LONGEST = 1024  # characters; paths on a board are shorter
_WANTED = "ssh://user@board:port/path (user, port and path may be left out), or local:/path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A board's address.

    Attributes:
        text: as it was given.
        host: name, address, or an entry of the user's ssh config; "" for this machine.
        user: user there, or "" for ssh's own choice.
        port: port, or None for ssh's own choice.
        root: the board's folder; a relative one is below the user's home.
    """

    text: str
    host: str = ""
    user: str = ""
    port: int | None = None
    root: str = DEFAULT_ROOT

    @property
    def destination(self) -> str:
        """What ssh and rsync call it."""
        return f"{self.user}@{self.host}" if self.user else self.host


def parse_address(text: str) -> Address:
    """Return the board that a text stands for.

    Raises:
        UsageError: it is none.
    """
    if not text.isprintable() or len(text) > LONGEST:  # it reaches a unit, a shell and terminals
        raise UsageError(f"the address {text[:SHOWN]!r} is none of a board", wanted=f"printable characters: {_WANTED}")
    if text.startswith("local:/") and len(text) > len("local:/"):
        return Address(text=text, root=text.removeprefix("local:"))
    found = _SSH.fullmatch(text)
    if not found:
        raise UsageError(f"the address {text[:SHOWN]!r} is none of a board", wanted=_WANTED)
    if found["port"] and not 0 < int(found["port"]) < 65536:
        raise UsageError(f"the address {text!r} has the port {found['port']}", wanted="a port in 1..65535")
    return Address(
        text=text,
        host=found["host"].strip("[]"),
        user=found["user"] or "",
        port=int(found["port"]) if found["port"] else None,
        root=_root(found["path"] or ""),
    )


def _root(path: str) -> str:
    if path in ("", "/"):
        return DEFAULT_ROOT
    return path.removeprefix("/") if path.startswith("/~/") else path

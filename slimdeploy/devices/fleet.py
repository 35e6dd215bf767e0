"""Read a fleet: a TOML file with one `[[board]]` for each board."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimdeploy.board.text import SHOWN, one_line
from slimdeploy.devices.address import LONGEST, Address, parse_address
from slimdeploy.errors import UsageError
from slimdeploy.files import read_toml
from slimdeploy.targets import load_target

_KEYS = ("name", "address", "group", "target", "canary")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBoard:
    """One board of a fleet.

    Attributes:
        name: as shown; each once.
        address: where it is.
        group: what it belongs to, or "".
        target: what it is, a name of `slimdeploy targets`; a bundle for something else is not shipped to it.
        canary: shipped to first, one by one; the others follow when all canaries fly.
    """

    name: str
    address: Address
    group: str = ""
    target: str = ""
    canary: bool = False


def read_fleet(path: Path) -> tuple[FleetBoard, ...]:
    """Return the boards of a fleet, in the file's order.

    Where no board is named a canary, the first one is.

    Raises:
        UsageError: the file is missing or damaged, or a board in it is wrong.
    """
    raw = read_toml(path, what="fleet", wanted="a TOML file with a [[board]] for each board")
    entries = raw.get("board")
    if set(raw) != {"board"} or not isinstance(entries, list) or not entries:
        raise UsageError(f"{path} is no fleet", wanted="a [[board]] for each board, and nothing else")
    boards = tuple(_board(path, entry) for entry in entries)
    for key, values in (("name", [one.name for one in boards]), ("address", [one.address.text for one in boards])):
        if twice := [value for value, times in Counter(values).items() if times > 1]:
            raise UsageError(f"{path} has the {key} {twice[0]!r} twice", wanted="each board once")
    return boards


def _board(path: Path, entry: Any) -> FleetBoard:
    if not isinstance(entry, dict) or not {"name", "address"} <= set(entry):
        raise UsageError(f"{path}: a board lacks its name or its address", wanted=f"some of {', '.join(_KEYS)}")
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise UsageError(
            f"{path}: {_shown(entry['name'])} has the unknown key {unknown[0][:SHOWN]!r}", wanted=", ".join(_KEYS)
        )
    for key, value in entry.items():
        if not isinstance(value, bool if key == "canary" else str):
            raise UsageError(
                f"{path}: {key} of {_shown(entry['name'])} is {_shown(repr(value))}",
                wanted="true or false" if key == "canary" else "a text",
            )
        if key != "address" and isinstance(value, str) and not (value.isprintable() and len(value) <= LONGEST):
            raise UsageError(
                f"{path}: {key} {value[:SHOWN]!r} cannot be used", wanted="printable characters in one line"
            )
    if entry.get("target"):
        load_target(entry["target"])
    return FleetBoard(**{**entry, "address": parse_address(entry["address"])})


def _shown(value: Any) -> str:
    return one_line(str(value), SHOWN)

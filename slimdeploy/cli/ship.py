"""`slimdeploy ship`: bring a bundle to a board, go back to the one before, or say what flies there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, show, table
from slimdeploy.configs import ShipConfig, build
from slimdeploy.errors import UsageError

NAME = "ship"
SHOWN_HASH = 12

log = logging.getLogger("slimdeploy.ship")


def command(
    to: Annotated[str, typer.Option(help="The board: ssh://user@board:port/path, or local:/path.")],
    bundle: Annotated[Path | None, typer.Argument(help="A bundle: its folder, or one .tar.zst.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Say what the board holds, and change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the release before.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove all but the current release and those kept.")] = False,
    keep: Annotated[int | None, typer.Option(help="Releases before the current one that stay.")] = None,
    force_target: Annotated[
        bool, typer.Option("--force-target", help="Ship to a board that the bundle was not made for.")
    ] = False,
    python: Annotated[str | None, typer.Option(help="The board's Python, 3.8 or newer.")] = None,
    build_timeout: Annotated[float | None, typer.Option(help="Longest build of the engine, in seconds.")] = None,
    check_timeout: Annotated[float | None, typer.Option(help="Longest check of the golden sample, in seconds.")] = None,
    connect_timeout: Annotated[float | None, typer.Option(help="Longest wait for a connection, in seconds.")] = None,
    stall_timeout: Annotated[float | None, typer.Option(help="Longest silence of a connection, in seconds.")] = None,
    rate: Annotated[int | None, typer.Option(help="Most that the transfer takes of the link, in kB/s.")] = None,
    json: JsonOption = False,
) -> None:
    """Ship a bundle to a board: sent, verified, built and checked there, then made the current release in one step.

    On any failure the release from before flies on, and the exit code is 4. A broken transfer goes on where it stopped.

    Example: slimdeploy ship bundle --to ssh://pilot@drone-1
    """
    from slimdeploy.devices.address import parse_address

    flags = {
        "keep": keep,
        "python": python,
        "build_timeout_s": build_timeout,
        "check_timeout_s": check_timeout,
        "connect_timeout_s": connect_timeout,
        "stall_timeout_s": stall_timeout,
        "rate_kbps": rate,
        "force_target": force_target or None,
    }
    config = build(ShipConfig, flags)
    what = _one_thing(bundle, status=status, rollback=rollback, prune=prune)
    address = parse_address(to)
    if what == "ship" and bundle is not None:
        from slimdeploy.stages.ship import ship

        done = ship(bundle, address, config)
        for warning in done["warnings"]:
            log.warning("%s", warning)
        show(done, text=shipped_text(done), as_json=json)
        return
    done = _ask(what, address, config)
    show(done, text=_TEXTS[what](done), as_json=json)


def _one_thing(bundle: Path | None, **asked: bool) -> str:
    """Return the one thing that is asked for: `ship`, `status`, `rollback` or `prune`."""
    things = [*(["ship"] if bundle is not None else []), *(name for name, wanted in asked.items() if wanted)]
    if len(things) != 1:
        given = " and ".join(things) or "nothing"
        raise UsageError(f"asked for {given}", wanted="a bundle, --status, --rollback or --prune: one of them")
    return things[0]


def _ask(what: str, address: Any, config: ShipConfig) -> dict[str, Any]:
    from slimdeploy.stages.ship import reached

    with reached(address, config) as board:
        return (
            board.ask("look")
            if what == "status"
            else board.ask(what, **({"keep": config.keep} if what == "prune" else {}))
        )


def shipped_text(done: dict[str, Any]) -> str:
    """Return what a ship did as lines for a person."""
    board = f"{done['address']}{', a simulated board' if done['simulated'] else ''}"
    seconds = done["seconds"]
    back = f"; back to it: slimdeploy ship --rollback --to {done['address']}" if done["previous"] else ""
    lines = [
        f"shipped: {_short(done['release'])} flies on {board}",
        f"before:  {_short(done['previous'])}{back}",
        f"took:    {seconds['send']:.1f} s to send, {seconds['build_and_check']:.1f} s to verify, build and check",
    ]
    return "\n".join(lines)


def status_text(done: dict[str, Any]) -> str:
    """Return what a board holds as a table."""
    board = done["board"]["model"] or "no Jetson"
    lines = [f"board: {board}, {done['free_bytes'] / 1e9:.1f} GB free, Python {done['python']}, folder {done['root']}"]
    rows = [
        (_short(one["release"]), *_model(one), "flies" if one["current"] else "")
        for one in sorted(done["releases"], key=lambda one: not one["current"])
    ]
    return "\n".join([*lines, table(("release", "model", "precision", "for", ""), rows) if rows else "no release yet"])


def _model(one: dict[str, Any]) -> tuple[str, str, str]:
    if "wrong" in one:
        return ("damaged", "", "")
    return one["model"]["name"], one["model"]["precision"], one["target"]


def rolled_text(done: dict[str, Any]) -> str:
    """Return what a rollback did as lines for a person."""
    passed = [f"passed over {_short(one['release'])}: {one['wrong']}" for one in done["damaged"]]
    return "\n".join([f"rolled back: {_short(done['current'])} flies, {_short(done['previous'])} does not", *passed])


def pruned_text(done: dict[str, Any]) -> str:
    """Return what was removed as lines for a person."""
    removed = ", ".join(map(_short, done["removed"])) or "nothing"
    return f"removed: {removed}; {done['freed_bytes'] / 1e6:.1f} MB freed"


def _short(name: str | None) -> str:
    return "nothing" if name is None else name[:SHOWN_HASH]


_TEXTS = {"status": status_text, "rollback": rolled_text, "prune": pruned_text}

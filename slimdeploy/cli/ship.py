"""`slimdeploy ship`: bring a bundle to a board, go back to the one before, or say what flies there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from slimdeploy.cli._shared import JsonOption, show, table
from slimdeploy.configs import FleetConfig, ShipConfig, build
from slimdeploy.errors import DeviceError, UsageError

NAME = "ship"
SHOWN_HASH = 12

log = logging.getLogger("slimdeploy.ship")


def command(
    to: Annotated[str, typer.Option(help="ssh://user@board:port/path, local:/path, or a fleet's TOML file.")],
    bundle: Annotated[Path | None, typer.Argument(help="A bundle: its folder, or one .tar.zst.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Say what the board holds, and change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the release before.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove all but the current release and those kept.")] = False,
    install_service: Annotated[
        str | None, typer.Option(help="Let a systemd service run what flies on this camera, stream or pipeline.")
    ] = None,
    udev_rule: Annotated[
        bool, typer.Option("--udev-rule", help="Start that service when its camera appears; as root.")
    ] = False,
    remove_service: Annotated[bool, typer.Option("--remove-service", help="Stop the service and remove it.")] = False,
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
    parallel: Annotated[int | None, typer.Option(help="Boards of a fleet at the same time.")] = None,
    max_failures: Annotated[int | None, typer.Option(help="Boards of a fleet that may fail.")] = None,
    group: Annotated[str | None, typer.Option(help="The group of a fleet that is meant.")] = None,
    json: JsonOption = False,
) -> None:
    """Ship a bundle to a board: sent, verified, built and checked there, then made the current release in one step.

    On any failure the release from before flies on, and the exit code is 4. A broken transfer goes on where it stopped.

    Example: slimdeploy ship bundle --to ssh://pilot@drone-1
    """
    flags = {
        "keep": keep,
        "python": python,
        "build_timeout_s": build_timeout,
        "check_timeout_s": check_timeout,
        "connect_timeout_s": connect_timeout,
        "stall_timeout_s": stall_timeout,
        "rate_kbps": rate,
        "force_target": force_target or None,
        "service_source": install_service,
        "udev_rule": udev_rule or None,
    }
    alone = {"install_service": install_service is not None and bundle is None, "remove_service": remove_service}
    what = _one_thing(bundle, status=status, rollback=rollback, prune=prune, **alone)
    config = build(ShipConfig, flags)
    if to.endswith(".toml"):
        fleet = build(FleetConfig, {"parallel": parallel, "max_failures": max_failures, "group": group, "ship": config})
        _fleet(what, bundle, Path(to), fleet, as_json=json)
    else:
        _board(what, bundle, to, config, as_json=json)


def _board(what: str, bundle: Path | None, to: str, config: ShipConfig, *, as_json: bool) -> None:
    from slimdeploy.devices.address import parse_address
    from slimdeploy.stages.ship import reached, ship

    address = parse_address(to)
    if bundle is not None:
        done = ship(bundle, address, config)
    else:
        with reached(address, config) as board:
            done = board.ask(VERBS[what], **_request(what, config))
    for warning in done.get("warnings", ()):
        log.warning("%s", warning)
    show(done, text=_TEXTS[what](done), as_json=as_json, complete=f"{what} at {to}")


def _fleet(what: str, bundle: Path | None, path: Path, config: FleetConfig, *, as_json: bool) -> None:
    from slimdeploy.devices.fleet import read_fleet
    from slimdeploy.stages.fleet import ask_fleet, chosen, ship_fleet

    boards = chosen(read_fleet(path), config.group)
    if bundle is not None:
        results = ship_fleet(bundle, boards, config)
    else:
        results = ask_fleet(boards, config, VERBS[what], **_request(what, config.ship))
    show({"schema": 1, "boards": results}, text=fleet_text(results), as_json=as_json)
    failed = [one for one in results if "error" in one]
    if failed:
        skipped = sum("skipped" in one for one in results)
        told = f"{len(failed)} of {len(results)} boards failed" + (f", {skipped} were not begun" if skipped else "")
        typer.echo(f"slimdeploy: {told}", err=True)  # stdout has its one object already
        raise typer.Exit(DeviceError.exit_code)


def _request(what: str, config: ShipConfig) -> dict[str, Any]:
    if what == "install_service":
        return {"source": config.service_source, "udev": config.udev_rule, "start": True}
    return {"keep": config.keep} if what == "prune" else {}


def fleet_text(results: list[dict[str, Any]]) -> str:
    """Return what runs where as a table, with the reasons of those that failed below it."""
    rows = [(one["name"], _flies(one), _state(one)) for one in results]
    reasons = [
        f"{one['name']}: {one['wrong']}" + (f"; do: {one['do']}" if one["do"] else "")
        for one in results
        if "error" in one
    ]
    return "\n".join([table(("board", "flies", ""), rows), *reasons])


def _flies(one: dict[str, Any]) -> str:
    if "error" in one or "skipped" in one:
        return "as before"
    return _short(one.get("current", one.get("release"))) if {"current", "release"} & set(one) else ""


def _state(one: dict[str, Any]) -> str:
    if "error" in one:
        return "FAILED"
    return "not begun" if "skipped" in one else "ok"


def _one_thing(bundle: Path | None, **asked: bool) -> str:
    """Return the one thing that is asked for: `ship`, or the name of a flag."""
    things = [*(["ship"] if bundle is not None else []), *(name for name, wanted in asked.items() if wanted)]
    if len(things) != 1:
        given = " and ".join(things) or "nothing"
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise UsageError(f"asked for {given}", wanted=f"a bundle, or {flags}: one of them")
    return things[0]


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
    lines += [service_text(done)] if done["service"] else []
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


def service_text(done: dict[str, Any]) -> str:
    """Return what is known of a board's service as a line for a person."""
    known = done["service"]
    log = "journalctl" + ("" if known["system"] else " --user") + " -u slimdeploy"
    return f"service: {'runs' if known['active'] else 'DOES NOT RUN'} on {known['source']}; on the board: {log}"


def removed_text(done: dict[str, Any]) -> str:
    """Return what was removed as a line for a person."""
    return f"service removed: {done['removed']}"


def _short(name: str | None) -> str:
    return "nothing" if name is None else name[:SHOWN_HASH]


VERBS = {  # what each is called on the board
    "status": "look",
    "rollback": "rollback",
    "prune": "prune",
    "install_service": "install_service",
    "remove_service": "remove_service",
}
_TEXTS = {
    "ship": shipped_text,
    "status": status_text,
    "rollback": rolled_text,
    "prune": pruned_text,
    "install_service": service_text,
    "remove_service": removed_text,
}

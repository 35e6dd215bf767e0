"""Bring a bundle to many boards: canaries first, then the others side by side, and no further once too many failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from slimdeploy.bundle.archive import opened
from slimdeploy.bundle.pack import verify
from slimdeploy.configs import FleetConfig
from slimdeploy.devices.fleet import FleetBoard
from slimdeploy.errors import DeviceError, SlimdeployError, StageFailed, UsageError
from slimdeploy.stages.ship import reached, ship

log = logging.getLogger("slimdeploy.ship")

Work = Callable[[FleetBoard], dict[str, Any]]


def chosen(boards: Sequence[FleetBoard], group: str) -> list[FleetBoard]:
    """Return the boards of a group, or all of them.

    Raises:
        UsageError: no board is in that group.
    """
    found = [board for board in boards if not group or board.group == group]
    if not found:
        groups = ", ".join(sorted({board.group for board in boards if board.group})) or "none"
        raise UsageError(f"no board is in the group {group!r}", wanted=f"one of: {groups}")
    return found


def ship_fleet(bundle: Path, boards: Sequence[FleetBoard], config: FleetConfig) -> list[dict[str, Any]]:
    """Ship a bundle to every board of a fleet.

    Args:
        bundle: its folder or its `.tar.zst`, unpacked and verified once.
        boards: canaries are shipped to first, one by one; the first board is one where none is named.
        config: how many at a time, and how many may fail.

    Returns:
        One record a board, in the order given: `name`, and what `ship` returns, or `error`; `skipped` where it was not
        begun.

    Raises:
        ArtifactError: it is no bundle, or is not whole.
    """
    with opened(bundle) as folder:
        target = verify(folder)["target"]["name"]

        def work(board: FleetBoard) -> dict[str, Any]:
            if board.target and board.target != target and not config.ship.force_target:
                raise DeviceError(f"{board.name} is a {board.target}", wanted=target, do="ship a bundle for it")
            return ship(folder, board.address, config.ship)

        return run_fleet(boards, config, work)


def ask_fleet(boards: Sequence[FleetBoard], config: FleetConfig, verb: str, **request: Any) -> list[dict[str, Any]]:
    """Ask every board of a fleet the same, such as `look` or `rollback`; one that fails stops no other."""

    def work(board: FleetBoard) -> dict[str, Any]:
        with reached(board.address, config.ship) as session:
            return session.ask(verb, **request)

    with ThreadPoolExecutor(config.parallel) as pool:
        return list(pool.map(lambda board: _tried(board, work), boards))


def run_fleet(boards: Sequence[FleetBoard], config: FleetConfig, work: Work) -> list[dict[str, Any]]:
    """Do something on every board: canaries first, then the others side by side, until too many failed."""
    canaries = [board for board in boards if board.canary] or list(boards[:1])
    results: dict[str, dict[str, Any]] = {}
    for board in canaries:
        results[board.name] = _tried(board, work)
        if "error" in results[board.name]:
            log.warning("the canary %s failed; no other board is touched", board.name)
            break
    else:
        results |= _side_by_side([board for board in boards if board not in canaries], config, work)
    return [results.get(board.name, {"name": board.name, "skipped": True}) for board in boards]


def _side_by_side(boards: Sequence[FleetBoard], config: FleetConfig, work: Work) -> dict[str, dict[str, Any]]:
    failed, counting = 0, threading.Lock()

    def one(board: FleetBoard) -> dict[str, Any]:
        nonlocal failed
        with counting:
            if failed > config.max_failures:
                return {"name": board.name, "skipped": True}
        result = _tried(board, work)
        with counting:
            failed += "error" in result
        return result

    with ThreadPoolExecutor(config.parallel) as pool:
        return {board.name: result for board, result in zip(boards, pool.map(one, boards), strict=True)}


def _tried(board: FleetBoard, work: Work) -> dict[str, Any]:
    try:
        return {"name": board.name, **work(board)}
    except OSError as error:  # of this machine, such as a full disk
        failed: SlimdeployError = StageFailed(f"this machine refused: {error}")
    except SlimdeployError as error:
        failed = error
    return {"name": board.name, "address": board.address.text, **failed.as_json()}

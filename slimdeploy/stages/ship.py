"""Bring a bundle to a board: sent, verified, built, checked, and only then made the current release, in one step."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slimdeploy.board.whole import SIGNATURE, bundle_hash
from slimdeploy.bundle.agent import AGENT, write_agent
from slimdeploy.bundle.archive import bundle_names, opened
from slimdeploy.bundle.pack import verify
from slimdeploy.configs import ShipConfig
from slimdeploy.devices.address import Address
from slimdeploy.devices.session import BoardSession
from slimdeploy.devices.transfer import send
from slimdeploy.errors import DeviceError
from slimdeploy.outputs import scratch_folder
from slimdeploy.targets import load_target

CLOCK_S = 60.0  # by how much a board's clock may be off before it is told

log = logging.getLogger("slimdeploy.ship")


@contextmanager
def reached(address: Address, config: ShipConfig) -> Iterator[BoardSession]:
    """Give a board that answers, and end its process afterwards.

    Raises:
        DeviceError: it cannot be reached, or lacks what answers.
    """
    with scratch_folder() as folder:
        write_agent(Path(folder) / AGENT)
        agent = (Path(folder) / AGENT).read_bytes()
    with BoardSession(address, config, agent) as board:
        yield board


def ship(bundle: Path, address: Address, config: ShipConfig) -> dict[str, Any]:
    """Ship a bundle to one board.

    Args:
        bundle: its folder or its `.tar.zst`.
        address: the board.
        config: time limits and what is kept.

    Returns:
        What was done, as a JSON-ready object: `release`, `previous`, `sent`, `seconds`, what the board's agent said.

    Raises:
        ArtifactError: it is no bundle, or is not whole.
        DeviceError: anything else failed; the release from before still flies.
    """
    with opened(bundle) as folder:
        manifest = verify(folder)
        with reached(address, config) as board:
            facts = board.ask("look")
            warned = list(clock_warning(facts))
            require_board(manifest, facts, address, config)
            require_signed(folder, facts, address)
            name = bundle_hash(folder)
            sent, staged, seconds = bring(board, folder, manifest, config, facts)
            started = time.perf_counter()
            if config.service_source:  # the activation starts it
                asked: dict[str, Any] = {"source": config.service_source, "udev": config.udev_rule, "start": False}
                warned += board.ask("install_service", **asked)["warnings"]
            done = board.ask("activate", name=name, keep=config.keep)
    seconds["activate"] = time.perf_counter() - started
    return {
        "schema": 1,
        "address": address.text,
        "board": facts["board"]["model"],
        "simulated": facts["simulated"],
        "release": name,
        "previous": done["previous"],
        "removed": done["removed"],
        "sent": sent,
        "signed_by": staged["signed_by"],
        "build": staged["build"],
        "check": staged["check"],
        "seconds": {what: round(taken, 3) for what, taken in seconds.items()},
        "warnings": warned,
    }


def bring(
    board: BoardSession, folder: Path, manifest: Mapping[str, Any], config: ShipConfig, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """Send a bundle, have it verified, built and checked; return what was sent, the board's answer, and the seconds."""
    name = bundle_hash(folder)
    files = {one: folder / one for one in bundle_names(manifest, folder)}
    sizes = {one: path.stat().st_size for one, path in files.items()}
    spare_bytes = (config.spare_mib << 20) + int(config.engine_factor * sum(sizes.values()))
    place = board.ask("begin", name=name, files=sizes, spare_bytes=spare_bytes)
    started = time.perf_counter()
    sent: dict[str, Any] = {"with": None, "bytes": 0}
    if not place["present"]:
        here = sum(min(place["received"].get(one, 0), size) for one, size in sizes.items())
        log.info("sending %.1f MB%s", sum(sizes.values()) / 1e6, f", {here / 1e6:.1f} MB are there" if here else "")
        sent = send(board, files, place["folder"], place["received"], config)
    built = time.perf_counter()
    log.info("building and checking on the board")
    limits = {"build": config.build_timeout_s, "check": config.check_timeout_s}
    # A board that the bundle was not made for runs it with what it has.
    runtime = "onnxruntime" if config.force_target and not facts["tensorrt"] else ""
    limit_s = sum(limits.values()) + config.answer_timeout_s
    staged = board.ask("stage", name=name, timeouts_s=limits, runtime=runtime, timeout_s=limit_s)
    return sent, staged, {"send": built - started, "build_and_check": time.perf_counter() - built}


def require_board(manifest: Mapping[str, Any], facts: Mapping[str, Any], address: Address, config: ShipConfig) -> None:
    """Raise DeviceError if a bundle is made for another board, unless the config says to ship it all the same."""
    target = manifest["target"]
    parts, found = load_target(target["name"]).parts, facts["board"]
    wrong = ""
    if target["kind"] == "jetson" and not any("tegra" in entry for entry in found["compatible"]):
        wrong = f"{address.text} is no Jetson"
    elif parts and not set(parts) & set(found["parts"]):
        wrong = f"{address.text} is another board: {found['model'] or 'unknown'} ({', '.join(found['parts'])})"
    elif too_old(facts["tensorrt"], target["tensorrt"]):
        wrong = f"TensorRT {facts['tensorrt']} on {address.text} is too old for the graph"
    if wrong and not config.force_target:
        wanted = target["title"] + (f" with TensorRT {target['tensorrt'][0]} or newer" if "TensorRT" in wrong else "")
        raise DeviceError(wrong, wanted=wanted, do="export for this board, or ship with --force-target")


def too_old(found: str | None, wanted: list[str]) -> bool:
    """Return whether a version is below all those that a target lists; an unknown one is not."""
    return bool(found and wanted) and _numbers(found or "") < min(_numbers(one) for one in wanted)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit() and len(part) < 10)


def require_signed(folder: Path, facts: Mapping[str, Any], address: Address) -> None:
    """Raise DeviceError, before anything is sent, if a board wants a signature and the bundle has none."""
    if facts["signers"] and not (folder / SIGNATURE).is_file():
        raise DeviceError(
            f"{address.text}: the bundle is not signed",
            wanted=f"a signature of one of those in {facts['signers']} there",
            do="sign it with 'slimdeploy bundle sign'",
        )


def clock_warning(facts: Mapping[str, Any]) -> Iterator[str]:
    """Give a sentence where a board's clock is off; releases do not depend on it, logs and signatures may."""
    off_s = facts["clock_s"] - time.time()
    if abs(off_s) > CLOCK_S:
        days = abs(off_s) / 86400
        told = f"{days:.0f} days" if days >= 1 else f"{abs(off_s) / 60:.0f} minutes"
        yield f"the board's clock is {told} {'ahead' if off_s > 0 else 'behind'}"

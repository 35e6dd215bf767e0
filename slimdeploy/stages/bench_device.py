"""Time bundles on a board through its agent, and bring the raw samples and the telemetry home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slimdeploy.board.whole import bundle_hash
from slimdeploy.bundle.archive import opened
from slimdeploy.bundle.pack import verify
from slimdeploy.configs import BenchConfig, ShipConfig
from slimdeploy.devices.address import Address
from slimdeploy.devices.session import BoardSession
from slimdeploy.errors import DeviceError
from slimdeploy.lineage import Input, stage_run, write_json
from slimdeploy.outputs import refuse_existing
from slimdeploy.records import Measurement, Row, as_json
from slimdeploy.stages.bench import OUTPUT, TITLE
from slimdeploy.stages.ship import bring, reached, require_board, require_signed

TELEMETRY = "telemetry.json"


def bench_device(
    bundles: Sequence[Path], address: Address, config: BenchConfig, out: Path, *, shipping: ShipConfig
) -> Path:
    """Measure bundles on a board, one after the other; what flies there stays, and goes on flying.

    Each bundle is sent, verified, built and checked as in a ship, but never made the current release; the next ship or
    `slimdeploy ship --prune` removes it.

    Args:
        bundles: folders or `.tar.zst` files.
        address: the board.
        config: how many samples, rounds and threads.
        out: the folder to make: bench.json, and telemetry.json with what the board drew.
        shipping: time limits.

    Returns:
        The path of `bench.json`: its `rows` are records.Row, one a bundle, in the order given.

    Raises:
        ArtifactError: a bundle is not whole.
        DeviceError: the board cannot be reached, refuses a bundle, or fails.
        OutputExists: `out` is there already.
    """
    refuse_existing(out)
    names = {str(bundle): Input(bundle.name, _hash(bundle)) for bundle in bundles}
    with stage_run("bench", config=config, inputs=names, out=out) as run:
        rows, telemetry, notes = [], {}, []
        with reached(address, shipping) as board:
            for bundle in bundles:
                with opened(bundle) as folder:
                    manifest = verify(folder)
                    found = _measured(board, folder, manifest, config, shipping)
                row = _row(bundle.name.removesuffix(".tar.zst"), manifest, found)
                rows.append(as_json(row))
                telemetry[row.name] = found["telemetry"]
                simulated = " (a simulated board: no figure is a board's)" if found["simulated"] else ""
                notes = [f"Measured on {address.text}{simulated}."]
        write_json(run.folder / OUTPUT, {"schema": 1, "title": TITLE, "rows": rows, "notes": notes})
        write_json(run.folder / TELEMETRY, {"schema": 1, "by_row": telemetry})
    return out / OUTPUT


def _hash(bundle: Path) -> str:
    with opened(bundle) as folder:
        verify(folder)
        return bundle_hash(folder)


def _measured(
    board: BoardSession, folder: Path, manifest: Mapping[str, Any], config: BenchConfig, shipping: ShipConfig
) -> dict[str, Any]:
    facts = board.ask("look")
    require_board(manifest, facts, board.address, shipping)
    require_signed(folder, facts, board.address)
    bring(board, folder, manifest, shipping, facts)
    options = {"--samples": config.samples, "--rounds": config.rounds, "--threads": config.threads}
    return board.ask(
        "bench",
        timeout_s=shipping.bench_timeout_s + shipping.answer_timeout_s,
        name=bundle_hash(folder),
        limit_s=shipping.bench_timeout_s,
        options=[str(part) for option in options.items() for part in option],
    )


def _row(name: str, manifest: Mapping[str, Any], found: Mapping[str, Any]) -> Row:
    """Return a bundle's row, of the graph that the board ran; the board's figures are checked as they come in."""
    model = {**manifest["model"], "file": found.get("graph", manifest["model"]["file"])}
    precisions = {one["file"]: one["precision"] for one in manifest.get("graphs", ())}
    try:
        measured = found["measurement"]
        tuples = {key: tuple(measured[key]) for key in ("samples_s", "warmup_s", "rounds", "warnings")}
        latency = Measurement(**{**measured, **tuples, "artifact": name})
    except (KeyError, TypeError) as error:
        raise DeviceError(f"the board's measurement is damaged: {error}", do="export the bundle again") from error
    return Row(
        name=name,
        file=model["file"],
        format=model["format"],
        precision=precisions.get(model["file"], model["precision"]),
        parameters=model["parameters"],
        size_bytes=manifest["files"].get(model["file"], {}).get("size_bytes", 0),
        macs=model["macs"],
        latency=latency,
    )

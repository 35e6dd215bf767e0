"""`slimdeploy bench`: time models side by side."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from slimdeploy.cli._shared import ConfigOption, JsonOption, TrustOption, show
from slimdeploy.configs import RIGOROUS_S, BenchConfig, ShipConfig, ValConfig, build
from slimdeploy.errors import UsageError

NAME = "bench"

log = logging.getLogger("slimdeploy.bench")


def command(
    artifacts: Annotated[list[Path], typer.Argument(help="Models: .onnx or .pt files, or bundles' folders.")],
    data: Annotated[Path | None, typer.Option(help="A data set's YAML; with it, accuracy is measured too.")] = None,
    samples: Annotated[int | None, typer.Option(help="Timed calls of each model.")] = None,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of timed calls of each model, in place of --samples.")
    ] = None,
    rigorous: Annotated[bool, typer.Option("--rigorous", help="600 seconds, as MLPerf's SingleStream asks.")] = False,
    batch: Annotated[int | None, typer.Option(help="Images a call of a .pt; an .onnx brings its own.")] = None,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Time also from decoded frame to final boxes.")
    ] = False,
    fps: Annotated[
        float | None, typer.Option(help="Offer frames at a camera's rate; tells how many are late or dropped.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Tell the time of each layer.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that a model's process may give no answer before it is given up.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; 0 takes every usable core.")] = None,
    backend: Annotated[str | None, typer.Option(help="The runtime; without it, the one of the file's format.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the input of a .pt, in pixels.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Measure bundles on this board, and leave what flies there: ssh://user@board.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to make; it must not exist. Without it, bench-<UTC time>.")
    ] = None,
    config: ConfigOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
) -> None:
    """Time models side by side, each in a process of its own, taking turns; writes bench.json.

    Example: slimdeploy bench dense tuned --data visdrone.yaml --end-to-end --fps 30 --out bench
    """
    from slimdeploy.lineage import read_json
    from slimdeploy.recipes import section
    from slimdeploy.report.build import report_from
    from slimdeploy.report.terminal import as_text
    from slimdeploy.stages.bench import bench, find_models

    val = build(ValConfig, {"imgsz": imgsz}, section(config, "val"))
    flags = {
        "samples": samples, "duration_s": _duration_s(samples, duration, rigorous), "threads": threads, "batch": batch,
        "end_to_end": end_to_end or None, "fps": fps, "profile": profile or None, "timeout_s": timeout,
        "backend": backend, "val": val,
    }  # fmt: skip
    settings = build(BenchConfig, flags, section(config, NAME))
    if out is None:
        out = Path(f"bench-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}")
        log.info("results go to %s", out)
    if device is None:
        written = bench(find_models(artifacts), settings, out, data=data, trust=trust)
    else:
        written = _on_device(artifacts, device, settings, out, data=data)
    results = read_json(written, what="bench results")
    show(
        {**results, "out": str(out)},
        text=f"{as_text(report_from([out]))}\n\nresults: {written}",
        as_json=json,
        complete=out,
    )


def _duration_s(samples: int | None, duration: float | None, rigorous: bool) -> float | None:
    asked = {"--samples": samples is not None, "--duration": duration is not None, "--rigorous": rigorous}
    named = [name for name, given in asked.items() if given]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} together", wanted="one of them")
    if duration is not None and duration <= 0:
        raise UsageError(f"a --duration of {duration:g} s", wanted="more than 0")
    return RIGOROUS_S if rigorous else duration


def _on_device(bundles: list[Path], device: str, settings: BenchConfig, out: Path, *, data: Path | None) -> Path:
    from slimdeploy.devices.address import parse_address
    from slimdeploy.stages.bench_device import bench_device

    if data is not None:
        raise UsageError("--data with --device", wanted="one of them: accuracy is scored on this computer")
    if settings.end_to_end or settings.fps or settings.profile or settings.duration_s:
        raise UsageError(
            "--device with --end-to-end, --fps, --profile, --duration or --rigorous",
            wanted="--samples alone: the board's agent times the bare session",
        )
    return bench_device(bundles, parse_address(device), settings, out, shipping=ShipConfig())

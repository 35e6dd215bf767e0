"""Run the golden sample through the engine, and hold speed and power to the limits that the manifest sets."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from slimdeploy.board.errors import SCHEMA, ArtifactError, GateError
from slimdeploy.board.golden import EXPECTED, compare, read_golden, read_image, read_record
from slimdeploy.board.golden_rows import compare_rows, read_rows
from slimdeploy.board.pixels import write_planes
from slimdeploy.board.sessions import open_session
from slimdeploy.board.telemetry import Sampler, mean_power_mw

if TYPE_CHECKING:
    from slimdeploy.board.boxes import Floats, Pixels
    from slimdeploy.board.bundle import Bundle
    from slimdeploy.board.golden import Agreement, Golden
    from slimdeploy.board.golden_rows import GoldenRows
    from slimdeploy.board.sessions import Engines, Session

WARMUP_CALLS = 10
TIMED_CALLS = 100


def check(bundle: Bundle, engines: Engines) -> dict[str, Any]:
    """Return how the engine did on the golden sample, as a JSON-ready object.

    Raises:
        ArtifactError: the bundle, its golden sample or the engine is missing or damaged.
        GateError: the boxes differ by more than the tolerance, or it is slower or draws more than the limits allow.
    """
    image = read_image(bundle)
    session = open_session(bundle, engines)
    try:
        images = input_of(image, bundle)
        agreement, golden = _compared(np.asarray(session.run(images)[0]), bundle, session.graph)
        result = {
            "schema": SCHEMA,
            "simulated": engines.machine.simulated,
            "runtime": f"{session.runtime} {session.version}",
            "graph": session.graph,
            "what": _what(bundle),
            **dataclasses.asdict(agreement),
            "box_tolerance_px": golden.box_px,
            "score_tolerance": golden.score,
        }
        if not agreement.holds:
            what = f"of {agreement.expected} {result['what']} {agreement.missing} are missing"
            raise GateError(
                f"the golden sample fails: {what}, and {agreement.unexpected} are found where nothing is",
                wanted=f"every one within {golden.box_px:g} px and {golden.score:g} of its score, and no other",
                do="build the engine again, or export at a higher precision",
            )
        limits = bundle.manifest.get("limits", {})
        return {**result, **(_held(_measured(session, images, engines), limits) if limits else {})}
    finally:
        session.close()


def _compared(head: Floats, bundle: Bundle, graph: str) -> tuple[Agreement, Golden | GoldenRows]:
    """Hold an output to the sample: a detector's boxes, of any other task the surest rows."""
    if bundle.manifest["model"]["task"] == "detect":
        golden = read_golden(bundle, graph)
        return compare(head, golden), golden
    try:
        rows = read_rows(read_record(bundle, graph))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{EXPECTED} of {bundle.folder} is damaged: {error}", do="export it again") from error
    return compare_rows(head, rows), rows


def _what(bundle: Bundle) -> str:
    return "boxes" if bundle.manifest["model"]["task"] == "detect" else "rows"


def input_of(image: Pixels, bundle: Bundle) -> Floats:
    """Return the golden image as a whole batch of inputs (B, 3, H, W)."""
    images = np.empty((bundle.batch, 3, *bundle.imgsz), dtype=np.float32)
    for one in images:
        write_planes(image, one)
    return images


def _measured(session: Session, images: Floats, engines: Engines) -> dict[str, float | None]:
    """Time the engine and what the board draws meanwhile; power is None where the board does not tell it."""
    for _ in range(WARMUP_CALLS):
        session.run(images)
    samples_s = []
    with Sampler(root=engines.machine.root) as sampler:
        for _ in range(TIMED_CALLS):
            started_s = time.perf_counter()
            session.run(images)
            samples_s.append(time.perf_counter() - started_s)
    p90_s = statistics.quantiles(samples_s, n=10, method="inclusive")[-1]
    return {"p90_ms": 1000 * p90_s, "power_mw": mean_power_mw(sampler.samples)}


def _held(measured: dict[str, float | None], limits: dict[str, float]) -> dict[str, float | None]:
    for name, limit in limits.items():
        found = measured.get(name)
        if found is None:
            raise GateError(f"the board does not tell {name}", wanted=f"at most {limit:g}", do="remove the limit")
        if found > limit:
            raise GateError(
                f"{name} is {found:.4g}",
                wanted=f"at most {limit:g}, as the manifest says",
                do="make the network smaller, or export with a higher limit",
            )
    return measured


def as_text(result: dict[str, Any]) -> str:
    """Return the outcome of `check` as lines for a person."""
    by = f"{result['runtime']} by {result['graph']}"
    lines = [
        f"golden sample: {result['expected']} {result['what']} found in {by}, largest shift "
        f"{result['box_shift_px']:.2g} px, largest change of a score {result['score_change']:.2g}"
    ]
    if "p90_ms" in result:
        drawn = "" if result["power_mw"] is None else f", {result['power_mw'] / 1000:.2f} W"
        lines.append(f"limits:        p90 {result['p90_ms']:.2f} ms{drawn}: within what the manifest sets")
    return "\n".join(lines)

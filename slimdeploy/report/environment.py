"""The machines and versions behind a report's figures, and the stages that led to them, flat enough to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slimdeploy.records import Measurement, Report

Facts = tuple[tuple[str, str], ...]


def environments(report: Report) -> list[tuple[tuple[str, ...], Facts]]:
    """Return what the measurements were made under, as names of models and their facts.

    What all models share stands first; after it, for each model alone, what is not the same for all.
    """
    known = {row.name: dict(facts(_told(row.latency))) for row in report.rows if row.latency}
    if not known:
        return []
    first, *others = known.values()
    shared = {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
    apart = {name: [fact for fact in one.items() if fact[0] not in shared] for name, one in known.items()}
    alone = [((name,), tuple(rest)) for name, rest in apart.items() if rest]
    return [(tuple(known), tuple(shared.items())), *alone]


def _told(latency: Measurement) -> dict[str, Any]:
    run = {
        "runtime": latency.backend,
        "scope": latency.scope,
        "threads": latency.threads,
        "batch": latency.batch,
        "timed calls": len(latency.samples_s),
        "rounds": len(latency.rounds),
        "load, ms": 1000 * latency.load_s,
        "first call, ms": 1000 * latency.first_s,
        "peak memory, MiB": latency.peak_memory_mib,
    }
    return {**run, **latency.environment}


def facts(settings: Mapping[str, Any], prefix: str = "") -> Facts:
    """Return nested settings as flat pairs; what is None or empty is left out.

    Args:
        settings: a JSON object.
        prefix: stands in front of each name.
    """
    pairs: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            pairs.extend(facts(value, f"{name}: "))
        elif isinstance(value, (list, tuple)):
            pairs.extend([(name, ", ".join(map(str, value)))] if value else [])
        elif value is not None and value != "":
            pairs.append((name, _shown(value)))
    return tuple(pairs)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value)

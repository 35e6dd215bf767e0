"""Which machine a figure was taken on, as far as its environment tells: figures of two machines are not compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Environment = Mapping[str, Any]
Facts = dict[str, str]  # what was not recorded is left out

DECIDING = ("cpu_model", "cores_usable", "governor", "os", "versions")


def same_machine(one: Environment, other: Environment) -> bool:
    """Return whether two environments agree in what sets the speed, so that their figures may be compared."""
    alike = all(one.get(fact) == other.get(fact) for fact in DECIDING)
    return alike and (one.get("board") or {}).get("power_mode") == (other.get("board") or {}).get("power_mode")


def machine_facts(environment: Environment) -> Facts:
    """Return what tells a machine from another: its board, processor, cores, accelerators and architecture.

    Args:
        environment: of a measurement made at the desk (`environment.environment`) or by a board's agent, whose own
            facts lie under `board`.
    """
    told = environment.get("board") or {}
    named = told.get("board") if isinstance(told.get("board"), Mapping) else None
    agent = told if named is not None else {}
    cards = [str(card["name"]) for card in environment.get("gpus") or () if card.get("name")]
    known = {
        "board": (named if named is not None else told).get("model") or (None if agent else ""),
        "processor": environment.get("cpu_model"),
        "cores": environment.get("cores"),
        "accelerators": None if agent else " + ".join(cards),  # a board's are its own
        "architecture": environment.get("machine") or agent.get("machine"),
    }
    return {name: str(fact) for name, fact in known.items() if fact is not None}


def machines(environments: Iterable[Environment]) -> list[str]:
    """Return the machines that environments are of, each once and as shown; what only one recorded tells none apart."""
    apart: list[Facts] = []
    for facts in map(machine_facts, environments):
        if all(_differ(facts, known) for known in apart):
            apart.append(facts)
    return [_shown(facts) for facts in apart]


def _differ(one: Facts, other: Facts) -> bool:
    return any(one[fact] != other[fact] for fact in one.keys() & other.keys())


def _shown(facts: Facts) -> str:
    cores = f"{facts['cores']} cores" if "cores" in facts else ""
    parts = (facts.get("board"), facts.get("processor"), cores, facts.get("accelerators"), facts.get("architecture"))
    return ", ".join(part for part in parts if part) or "a machine that told nothing of itself"

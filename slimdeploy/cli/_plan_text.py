"""A plan as text for a person: every layer's width before and after as table and picture, and why the rest stays."""

from __future__ import annotations

from collections import defaultdict

from slimdeploy.cli._shared import table
from slimdeploy.records import DetectionAgreement, PrunePlan
from slimdeploy.stages._agreement import counts_text

BAR = 24  # characters of the widest layer's bar
TOLD = 10  # groups in the table of sensitivities; the first table has the damage of all
KEPT, GONE = "█", "░"


def as_text(plan: PrunePlan) -> str:
    """Return a plan as table and picture, what was asked and reached, and what was kept whole and why."""
    narrowed = sum(len(group.kept) < group.width for group in plan.groups)
    return "\n".join(
        [
            layers(plan),
            "",
            *sensitivities(plan),
            *reached_lines(plan),
            f"{narrowed} of {len(plan.groups)} groups of coupled channels narrowed, to multiples of {plan.alignment}",
            *sensitivity_lines(plan),
            *whole_lines(plan),
        ]
    )


def layers(plan: PrunePlan) -> str:
    """Return a row for every layer: width before and after, milliseconds saved, sensitivity, and its bar."""
    saved_ms = plan.latency.saved_ms if plan.latency else {}
    damages = {name: one.damage for one in plan.sensitivities for name in one.groups}
    widest = max((group.width for group in plan.groups), default=1)
    rows = []
    for group in plan.groups:
        for layer in group.layers:
            damage = f"{damages[group.name]:.3f}" if group.name in damages else ""
            ms = f"{saved_ms[layer]:.3f}" if layer in saved_ms else ""
            bar = picture(len(group.kept), group.width, widest)
            rows.append((layer, str(group.width), str(len(group.kept)), ms, damage, bar.ljust(BAR)))
    return table(("layer", "before", "after", "ms saved", "damage alone", " " * BAR), rows)


def picture(kept: int, width: int, widest: int) -> str:
    """Return a bar as long as a layer is wide, with what stays in full and what goes in light."""
    whole = max(1, round(BAR * width / widest))
    full = max(1, round(whole * kept / width))
    return KEPT * full + GONE * (whole - full)


def sensitivities(plan: PrunePlan) -> list[str]:
    """Return a table of the groups that the outputs hang on most, with a bar each; nothing where none was tried."""
    worst = sorted(plan.sensitivities, key=lambda one: -one.damage)[:TOLD]
    if not worst:
        return []
    most = worst[0].damage or 1.0
    rows = [
        (
            " and ".join(one.groups),
            f"{one.width} to {one.tried}",
            f"{one.damage:.3f}",
            f"{one.positives[1]} of {one.positives[0]}",
            (KEPT * max(1, round(BAR * one.damage / most))).ljust(BAR),
        )
        for one in worst
    ]
    count = f"{len(worst)} of {len(plan.sensitivities)}"
    return [table((f"most sensitive, {count}", "tried", "damage alone", "still score", " " * BAR), rows), ""]


def reached_lines(plan: PrunePlan) -> list[str]:
    """Return what was asked for and what came of it, for a person."""
    latency = plan.latency
    if latency is None:
        return [f"asked for {plan.asked:.1%} of the {plan.budget}, reached {plan.reached:.1%}"]
    asked = {
        "speedup": f"{plan.asked:g} times as fast",
        "latency_ms": f"{plan.asked:g} ms",
        "fps": f"{plan.asked:g} images a second",
    }[plan.budget]
    before, after = latency.planned_ms
    planned = f"planned {before:.2f} to {after:.2f} ms by the {latency.source}"
    if latency.measured_ms is None:
        kind = "estimated, not measured" if latency.estimated else "planned, not measured"
        return [f"asked for {asked} on {latency.target}; {kind}: {latency.speedup:.2f} times as fast", planned]
    before, after = latency.measured_ms
    interval = "" if latency.speedup_interval is None else " [{:.2f}, {:.2f}]".format(*latency.speedup_interval)
    return [
        f"asked for {asked} on {latency.target}, measured {before:.2f} to {after:.2f} ms, "
        f"{latency.speedup:.2f} times as fast{interval}, {1e3 / after:.1f} images a second ({latency.precision})",
        planned,
    ]


def sensitivity_lines(plan: PrunePlan) -> list[str]:
    """Return what the plan as a whole does to what the network finds, before any fine-tuning."""
    if plan.agreement is not None:
        return [agreement_line(plan.agreement)]
    tried = plan.whole
    if tried is None:
        return ["whether the network still finds anything was not checked: --data names images to try the plan on"]
    before, after = tried.positives
    if not before:
        return ["the network finds nothing on the images it was tried on, so nothing shows what the plan costs"]
    return [f"before any fine-tuning, {after} anchors score on the images it was tried on, of {before} before the cut"]


def agreement_line(agreement: DetectionAgreement) -> str:
    """Return how much of what the whole network finds the cut one finds."""
    scores = ""
    if agreement.map50_95 is not None:
        scores = "; mAP50-95 there {1:.3f} against {0:.3f}".format(*agreement.map50_95)
    return (
        f"before any fine-tuning, with fitted weights, it finds {agreement.share:.0%} of what the whole network finds "
        f"({counts_text(agreement)}{scores})"
    )


def whole_lines(plan: PrunePlan) -> list[str]:
    """Return what was kept whole and why."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for one in plan.kept_whole:
        reasons[one.why].append(f"{one.layer} ({one.width})")
    return [f"kept whole: {', '.join(names)}: {why}" for why, names in reasons.items()]

"""Scenes as the page shows them: the first model's boxes beside those of the model that it is compared with."""

from __future__ import annotations

from typing import Any

from slimdeploy.records import Evaluation, Report, Scene, Seen
from slimdeploy.report.cells import label
from slimdeploy.report.findings import compared_row

KINDS = {"typical": "Typical images", "worst": "Images with the most mistakes"}


def scenes(report: Report) -> list[dict[str, Any]]:
    """Return the scenes in groups: a title, and scenes with a panel for each of the two models."""
    found = report.evaluation
    if found is None:
        return []
    names = list(dict.fromkeys([report.rows[0].name, compared_row(report).name]))
    groups = []
    for why, title in KINDS.items():
        own = [(i, scene) for i, scene in enumerate(found.scenes) if scene.why == why]
        shown = [_shown(i, scene, names, found) for i, scene in own if any(name in scene.seen for name in names)]
        if shown:
            groups.append({"title": f"{title} of {label(found.judged)}" if why == "worst" else title, "scenes": shown})
    return groups


def _shown(number: int, scene: Scene, names: list[str], found: Evaluation) -> dict[str, Any]:
    return {
        "id": f"scene-{number}",
        "file": label(scene.file),
        "height": scene.size[0],
        "width": scene.size[1],
        "jpeg": scene.jpeg,
        "panels": [_panel(name, scene.seen[name], found.classes) for name in names if name in scene.seen],
    }


def _panel(name: str, seen: Seen, classes: tuple[str, ...]) -> dict[str, Any]:
    right = sum(one.right for one in seen.found)
    boxes = [
        {
            "kind": "right" if one.right else "wrong",
            "told": f"{label(classes[one.label]) if one.label < len(classes) else one.label} {one.score:.2f}",
            **_place(one.xyxy),
        }
        for one in reversed(seen.found)  # the best ones on top
    ]
    missed = [{"kind": "missed", "told": "missed", **_place(xyxy)} for xyxy in seen.missed]
    told = f"{right} right, {len(seen.found) - right} wrong, {len(seen.missed)} missed"
    return {"name": label(name), "told": told, "boxes": missed + boxes}


def _place(xyxy: tuple[float, float, float, float]) -> dict[str, float]:
    x0, y0, x1, y1 = xyxy
    return {"x": x0, "y": y0, "width": round(x1 - x0, 1), "height": round(y1 - y0, 1)}

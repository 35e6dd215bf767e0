"""`slimdeploy doctor`: what is installed, which verbs work, what the machine has."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from slimdeploy import __version__
from slimdeploy._needs import EXTRAS, is_installed, pip_line
from slimdeploy.cli._shared import JsonOption, show

NAME = "doctor"
# The extra that each verb needs for all that it does; "" for the light core.
VERBS: Mapping[str, str] = {
    "train": "train",
    "sparsify": "train",
    "latency": "train",
    "prune": "train",
    "finetune": "train",
    "val": "onnx",
    "export": "train",
    "build": "onnx",
    "bench": "onnx",
    "bundle": "",
    "plan": "",
    "compare": "report",
    "gate": "",
    "run": "train",
    "search": "search",
    "ship": "",
    "demo": "train",
    "visdrone": "onnx",
    "data": "onnx",
    "targets": "",
    "doctor": "",
}
# What to know of a verb while an extra is missing: (the extra, the remark).
REMARKS: Mapping[str, tuple[str, str]] = {
    "val": ("train", ".pt files need the extra train"),
    "bench": ("train", ".pt files need the extra train"),
    "compare": ("report", "the table alone works without it"),
}
# What to know of an extra that is missing.
EXTRA_REMARKS: Mapping[str, str] = {
    "trtcheck": "NVIDIA's parser, for Linux on x86-64 alone",
    "ship": "bundles in one .tar.zst; folders work without it",
    "ray": "search on several machines; one works without it",
    "postgres": "a search's study in PostgreSQL; SQLite works without it",
}
# Names on the package index, where they are not the module's.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch_pruning": ("torch-pruning",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "PIL": ("pillow",),
    "yaml": ("PyYAML",),
    "tomli_w": ("tomli-w",),
    "faster_coco_eval": ("faster-coco-eval",),
    "tensorrt_rtx_bindings": ("tensorrt-rtx-cu13-bindings",),
    "onnxruntime_ep_nv_tensorrt_rtx": ("onnxruntime-ep-nv-tensorrt-rtx-cu13",),
}
# What opencv-python takes from the system on Linux; seen missing on a bare Debian.
OPENCV_LIBRARIES = ("libGL.so.1", "libgthread-2.0.so.0", "libxcb.so.1")


def command(json: JsonOption = False) -> None:
    """Say what is installed, which verbs work, and what the machine has.

    Example: slimdeploy doctor
    """
    found = examine()
    show(found, text=_as_text(found), as_json=json)


def examine() -> dict[str, Any]:
    """Return what `slimdeploy doctor --json` prints; imports none of the packages that it looks for."""
    from slimdeploy.cli import _machine

    versions = {module: _version(module) for modules in EXTRAS.values() for module in modules}
    complete = {extra: all(versions[module] for module in modules) for extra, modules in EXTRAS.items()}
    complete[""] = True
    return {
        "slimdeploy": __version__,
        "packages": versions,
        "extras": {extra: _state(complete[extra], extra, _extra_remark(extra, complete)) for extra in EXTRAS},
        "verbs": {verb: _state(complete[extra], extra, _remark(verb, complete)) for verb, extra in VERBS.items()},
        "machine": _machine.machine(),
        "warnings": _warnings(),
    }


def _state(works: bool, extra: str, remark: str = "") -> dict[str, Any]:
    return {"works": works, "install": "" if works else pip_line(extra), "remark": remark}


def _remark(verb: str, complete: Mapping[str, bool]) -> str:
    extra, remark = REMARKS.get(verb, ("", ""))
    return "" if complete[extra] else remark


def _extra_remark(extra: str, complete: Mapping[str, bool]) -> str:
    return "" if complete[extra] else EXTRA_REMARKS.get(extra, "")


def _version(module: str) -> str | None:
    from importlib import metadata

    if not is_installed(module):
        return None
    for package in PACKAGES.get(module, (module,)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return "unknown version"


def _warnings() -> list[str]:
    if not is_installed("cv2") or _installed("opencv-python-headless"):
        return []
    from slimdeploy.cli import _machine

    missing = _machine.missing_libraries(*OPENCV_LIBRARIES)
    return [f"OpenCV lacks {', '.join(missing)} of the system: apt install libgl1 libglib2.0-0"] if missing else []


def _installed(package: str) -> bool:
    from importlib import metadata

    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _as_text(found: Mapping[str, Any]) -> str:
    packages = [(name, version or "missing") for name, version in found["packages"].items()]
    parts = (
        f"slimdeploy {found['slimdeploy']}",
        "packages\n" + _list(packages),
        "extras\n" + _list([(name, _told(state, "complete")) for name, state in found["extras"].items()]),
        "verbs\n" + _list([(name, _told(state, "works")) for name, state in found["verbs"].items()]),
        "machine\n" + _list(_machine_rows(found["machine"])),
        *(f"warning: {warning}" for warning in found["warnings"]),
    )
    return "\n\n".join(parts)


def _list(rows: list[tuple[str, str]]) -> str:
    widest = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(widest)}  {text}" for name, text in rows)


def _told(state: Mapping[str, Any], good: str) -> str:
    told = good if state["works"] else f"needs: {state['install']}"
    return f"{told} ({state['remark']})" if state["remark"] else told


def _machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    gpus = [f"{g['name']}, {g['memory_mib'] or 'unknown'} MiB, driver {g['driver']}" for g in machine["gpus"]]
    memory = machine["memory_gib"]
    return [
        ("system", machine["system"]),
        ("Python", machine["python"]),
        ("CPU", f"{machine['cpu']}, {machine['cores']} cores for this process"),
        ("memory", "unknown" if memory is None else f"{memory} GiB"),
        ("free disk", f"{machine['free_disk_gib']} GiB here"),
        ("NVIDIA GPU", "; ".join(gpus) or "none that nvidia-smi lists"),
        ("TensorRT", machine["tensorrt"] or "not installed (it comes with a board's JetPack, never with slimdeploy)"),
        ("Jetson Linux", machine["l4t"] or "no Jetson"),
    ]

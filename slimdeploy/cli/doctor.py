"""`slimdeploy doctor`: what is installed, which verbs work, what the machine has."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from slimdeploy import __version__
from slimdeploy._needs import EXTRAS, pip_line
from slimdeploy.cli import _machine
from slimdeploy.cli._shared import JsonOption, show

NAME = "doctor"
# The extras that each verb cannot do without; () for the light core. `train` brings `onnx` and `report` with it.
VERBS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "sparsify": ("train",),
    "prune": ("train",),
    "finetune": ("train",),
    "val": ("onnx",),
    "export": ("train", "onnx"),
    "bench": ("onnx",),
    "compare": ("report",),
    "run": ("train", "onnx", "report"),
    "demo": ("train", "onnx", "report"),
    "targets": (),
    "doctor": (),
}
# Names on the package index, where they are not the module's.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "torch_pruning": ("torch-pruning",),
    "cv2": ("opencv-python", "opencv-python-headless"),
    "yaml": ("PyYAML",),
    "faster_coco_eval": ("faster-coco-eval",),
}
OPENCV_LIBRARIES = ("libGL.so.1", "libgthread-2.0.so.0")  # what opencv-python takes from the system on Linux


def command(json: JsonOption = False) -> None:
    """Say what is installed, which verbs work, and what the machine has.

    Example: slimdeploy doctor
    """
    found = examine()
    show(found, text=_as_text(found), as_json=json)


def examine() -> dict[str, Any]:
    """Return what `slimdeploy doctor --json` prints; imports none of the packages that it looks for."""
    extras = {name: _extra(modules, pip_line(name)) for name, modules in EXTRAS.items()}
    verbs = {verb: [e for e in needed if not extras[e]["complete"]] for verb, needed in VERBS.items()}
    return {
        "slimdeploy": __version__,
        "extras": extras,
        "verbs": {verb: _verb(lacking) for verb, lacking in verbs.items()},
        "machine": _machine.machine(),
        "warnings": _warnings(),
    }


def _extra(modules: tuple[str, ...], line: str) -> dict[str, Any]:
    versions = {module: _version(module) for module in modules}
    complete = all(version is not None for version in versions.values())
    return {"complete": complete, "packages": versions, "install": "" if complete else line}


def _verb(lacking: list[str]) -> dict[str, Any]:
    wanted = "train" if "train" in lacking else ",".join(lacking)
    return {"works": not lacking, "install": pip_line(wanted) if lacking else ""}


def _version(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    for package in PACKAGES.get(module, (module,)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return "unknown version"


def _warnings() -> list[str]:
    if importlib.util.find_spec("cv2") is None or _installed("opencv-python-headless"):
        return []
    missing = _machine.missing_libraries(*OPENCV_LIBRARIES)
    return [f"OpenCV lacks {', '.join(missing)} of the system: apt install libgl1 libglib2.0-0"] if missing else []


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _as_text(found: Mapping[str, Any]) -> str:
    extras = [(name, _packages_text(extra)) for name, extra in found["extras"].items()]
    verbs = [(name, "works" if verb["works"] else verb["install"]) for name, verb in found["verbs"].items()]
    warnings = "".join(f"\nwarning: {warning}" for warning in found["warnings"])
    parts = (f"slimdeploy {found['slimdeploy']}", _list(extras), _list(verbs), _list(_machine_rows(found["machine"])))
    return "\n\n".join(parts) + warnings


def _list(rows: list[tuple[str, str]]) -> str:
    widest = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(widest)}  {text}" for name, text in rows)


def _packages_text(extra: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in extra["packages"].items())
    return packages if extra["complete"] else f"{packages}; {extra['install']}"


def _machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    gpus = [f"{gpu['name']}, {gpu['memory_mib']} MiB, driver {gpu['driver']}" for gpu in machine["gpus"]]
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

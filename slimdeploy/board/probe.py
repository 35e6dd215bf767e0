"""What board this is and what it brings; a fact that the system does not tell is None, never 0."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from slimdeploy.board import jetpack
from slimdeploy.board.errors import SCHEMA
from slimdeploy.board.machine import Machine
from slimdeploy.board.telemetry import read_gpu_clock, read_power_mode
from slimdeploy.board.text import printable

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless")
_PART = re.compile(r"p[0-9]{4}-[0-9]{4}")
_DPKG = r"^Package: {name}\n(?:.+\n)*?Version: ([0-9.]{{1,30}})"


def probe(machine: Machine, folder: Path) -> dict[str, Any]:
    """Return the board and what it brings, as a JSON-ready object.

    Args:
        machine: the system to look at.
        folder: whose disk is asked for free space.
    """
    return {
        "schema": SCHEMA,
        "simulated": machine.simulated,
        "board": board(machine),
        "jetpack": release(machine),
        "tensorrt": tensorrt(machine),
        "cuda": cuda(machine),
        "power_mode": read_power_mode(machine.root),
        "gpu_clock": gpu_clock(machine),
        "memory": memory(machine),
        "disk_free_mib": shutil.disk_usage(str(folder)).free // (1 << 20),
        "python": platform.python_version(),
        "packages": packages(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def board(machine: Machine) -> dict[str, Any]:
    """Return the board's name and its part numbers: carriers of other makers keep the module's, and rename the rest."""
    compatible = (machine.text("proc/device-tree/compatible") or "").replace("\0", " ").split()
    parts = [part for entry in compatible for part in _PART.findall(entry)]
    model = machine.text("proc/device-tree/model") or None
    if model and machine.simulated:
        model = f"{model} (simulated board)"
    return {"model": model, "compatible": compatible, "parts": list(dict.fromkeys(parts))}


def release(machine: Machine) -> dict[str, str | None]:
    """Return the versions of L4T and JetPack."""
    l4t = jetpack.l4t_of(machine.text("etc/nv_tegra_release") or "")
    return {"l4t": l4t, "version": jetpack.jetpack_of(l4t)}


def tensorrt(machine: Machine) -> dict[str, Any]:
    """Return TensorRT's version, and the two ways to build with it: its Python module, and trtexec."""
    trtexec = machine.program("trtexec")
    version = _dpkg(machine, r"libnvinfer\d+")
    if version is None and not machine.simulated:
        version = _loaded_version()
    return {
        "version": version,
        "python": not machine.simulated and importlib.util.find_spec("tensorrt") is not None,
        "trtexec": str(trtexec) if trtexec else None,
    }


def cuda(machine: Machine) -> str | None:
    """Return the version of the CUDA toolkit or of its runtime library."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(machine.text("usr/local/cuda/version.json") or "")["cuda"]["version"])
    return _dpkg(machine, r"cuda-cudart-[\d-]+")


def gpu_clock(machine: Machine) -> dict[str, Any] | None:
    """Return the GPU's clock and bounds in MHz, and whether it is locked, or None where there is no such clock."""
    clock = read_gpu_clock(machine.root)
    if clock is None:
        return None
    return {"mhz": clock.mhz, "min_mhz": clock.min_mhz, "max_mhz": clock.max_mhz, "locked": clock.locked}


def memory(machine: Machine) -> dict[str, int | None]:
    """Return memory in MiB: all of it, and what programs can still take."""
    text = machine.text("proc/meminfo") or ""
    found = dict(re.findall(r"^(\w+):\s+([0-9]{1,15}) kB", text, re.MULTILINE))
    names = {"total_mib": "MemTotal", "available_mib": "MemAvailable"}
    return {name: int(found[key]) // 1024 if key in found else None for name, key in names.items()}


def packages() -> dict[str, str]:
    """Return the versions of the Python packages that the agent uses, of those that are there."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    if "opencv-python" not in found and importlib.util.find_spec("cv2") is not None:
        found.setdefault("opencv", "from the system")
    return found


def as_text(facts: dict[str, Any]) -> str:
    """Return what `probe` found as lines for a person."""
    clock, room = facts["gpu_clock"], facts["memory"]
    lines = {
        "board": facts["board"]["model"] or f"no Jetson: {facts['machine']}, {facts['cores_usable']} cores",
        "parts": ", ".join(facts["board"]["parts"]),
        "JetPack": facts["jetpack"]["version"] or facts["jetpack"]["l4t"],
        "TensorRT": facts["tensorrt"]["version"],
        "trtexec": facts["tensorrt"]["trtexec"],
        "CUDA": facts["cuda"],
        "power mode": facts["power_mode"],
        "GPU clock": clock and f"{clock['mhz']:g} MHz" + (", locked" if clock["locked"] else ""),
        "memory": f"{room['available_mib']} of {room['total_mib']} MiB free" if room["total_mib"] else None,
        "disk": f"{facts['disk_free_mib']} MiB free",
        "Python": facts["python"] + "".join(f", {name} {version}" for name, version in facts["packages"].items()),
        "clock": facts["time_utc"],
    }
    return "\n".join(f"{name + ':':<11} {printable(str(value))}" for name, value in lines.items() if value)


def _dpkg(machine: Machine, name: str) -> str | None:
    """Version of an installed Debian package whose name matches."""
    found = re.search(_DPKG.format(name=name), machine.text("var/lib/dpkg/status") or "", re.MULTILINE)
    return found.group(1) if found else None


def _loaded_version() -> str | None:
    """Version of the TensorRT library that the loader finds, such as "10.3.0"."""
    if not sys.platform.startswith("linux"):
        return None
    for name in ("libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8"):
        with contextlib.suppress(OSError):
            number = int(ctypes.CDLL(name).getInferLibVersion())
            major, rest = divmod(number, 10_000 if number >= 100_000 else 1_000)  # 100300 is 10.3.0; 8502 is 8.5.2
            minor, patch = divmod(rest, 100)
            return f"{major}.{minor}.{patch}"
    return None

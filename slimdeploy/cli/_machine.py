"""What this machine has, told without importing anything heavy and on every system."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores
from slimdeploy._needs import is_installed
from slimdeploy.bench import environment

GIB = 1 << 30
NVIDIA_SMI_TIMEOUT_S = 20.0


def machine() -> dict[str, Any]:
    """Return what a person asks of a machine first; None stands for what the system does not tell."""
    memory_mib = environment.memory_total_mib()
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "cpu": environment.cpu_model() or platform.machine(),
        "cores": usable_cores(),
        "memory_gib": None if memory_mib is None else round(memory_mib / 1024, 1),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "gpus": gpus(),
        "tensorrt": tensorrt(),
        "l4t": first_line(Path("/etc/nv_tegra_release")),
    }


def gpus() -> list[dict[str, Any]]:
    """Return the NVIDIA GPUs that nvidia-smi lists: name, memory in MiB and driver; [] without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver that is there and does not work
        return []
    return [_gpu(line) for line in answer.stdout.splitlines() if line.count(",") == 2]


def _gpu(line: str) -> dict[str, Any]:
    name, memory, driver = (part.strip() for part in line.split(","))
    return {"name": name, "memory_mib": int(memory) if memory.isdigit() else None, "driver": driver}


def tensorrt() -> str | None:
    """Return TensorRT's version where its Python bindings are installed, else None."""
    if not is_installed("tensorrt"):
        return None
    for name in ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "installed"


def first_line(path: Path) -> str | None:
    """Return a text file's first line, or None where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()[0]
    except (OSError, IndexError):
        return None


def missing_libraries(*names: str) -> list[str]:
    """Return which shared libraries the system's loader does not find; [] on systems other than Linux."""
    if not sys.platform.startswith("linux"):
        return []
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing

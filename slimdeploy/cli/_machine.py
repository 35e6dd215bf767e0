"""What this machine has, told without importing anything heavy and on every system."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from slimdeploy._cores import usable_cores

GIB = 1 << 30
NVIDIA_SMI_TIMEOUT_S = 20.0


def machine() -> dict[str, Any]:
    """Return what a person asks of a machine first; None stands for what the system does not tell."""
    memory = memory_bytes()
    return {
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_gib": None if memory is None else round(memory / GIB, 1),
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / GIB, 1),
        "gpus": gpus(),
        "tensorrt": tensorrt(),
        "l4t": first_line(Path("/etc/nv_tegra_release")),
    }


def cpu_name() -> str:
    """Return the CPU's name as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Return the machine's memory, in bytes, or None where the system does not tell."""
    if sys.platform == "win32":
        return _windows_memory_bytes()
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _windows_memory_bytes() -> int | None:  # pragma: no cover - Windows only
    kilobytes = ctypes.c_ulonglong()
    kernel32 = getattr(ctypes, "windll").kernel32  # noqa: B009 - there on Windows alone
    return kilobytes.value * 1024 if kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)) else None


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
    if importlib.util.find_spec("tensorrt") is None:
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

"""A recorded root that stands for a Jetson in tests. Nothing measured there is a Jetson's figure.

Texts are as boards wrote them (Orin Nano Super, JetPack 6.2.1); numbers that move are made up.
"""

from __future__ import annotations

from pathlib import Path

MODEL = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
COMPATIBLE = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
RELEASE = """\
# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, DATE: Mon Jun 16 16:07:13 UTC 2025
# KERNEL_VARIANT: oot
"""
DPKG = """\
Package: cuda-cudart-12-6
Status: install ok installed
Version: 12.6.68-1

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5
"""
MODES = """\
< POWER_MODEL ID=0 NAME=15W >
CPU_A78_0 MAX_FREQ 1497600
< POWER_MODEL ID=1 NAME=25W >
CPU_A78_0 MAX_FREQ 1344000
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_A78_0 MAX_FREQ -1
< PM_CONFIG DEFAULT=1 >
"""
RAILS = (("VDD_IN", 5000, 1100), ("VDD_CPU_GPU_CV", 5000, 300), ("VDD_SOC", 5000, 400))  # mV, mA
TEGRASTATS = (
    "04-19-2026 01:31:10 RAM 519/7607MB (lfb 61x4MB) CPU [0%@1728,0%@1728,0%@1728,9%@1728,0%@1728,0%@1728] "
    "EMC_FREQ 0%@3199 GR3D_FREQ 0%@[1018] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 cpu@48.906C "
    "soc2@47.656C soc0@48.093C gpu@49.593C tj@49.593C soc1@47.312C VDD_IN 5971mW/5971mW "
    "VDD_CPU_GPU_CV 1669mW/1669mW VDD_SOC 2308mW/2308mW"
)


def write_board(root: Path) -> Path:
    """Write the files and programs of a board below a new folder and return it."""
    texts = {
        "proc/device-tree/model": MODEL + "\0",
        "proc/device-tree/compatible": COMPATIBLE,
        "proc/meminfo": "MemTotal: 7802880 kB\nMemFree: 4096000 kB\nMemAvailable: 6144000 kB\n",
        "etc/nv_tegra_release": RELEASE,
        "etc/nvpmodel.conf": MODES,
        "var/lib/nvpmodel/status": "pmode:0002 fmode:fanNull\n",
        "var/lib/dpkg/status": DPKG,
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}',
        "sys/class/thermal/thermal_zone0/type": "tj-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "49593\n",
    }
    for name, value in (("cur_freq", 1020), ("min_freq", 306), ("max_freq", 1020)):
        texts[f"sys/class/devfreq/17000000.gpu/{name}"] = f"{value * 10**6}\n"
    for channel, (rail, millivolts, milliamperes) in enumerate(RAILS, start=1):
        folder = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
        texts[f"{folder}/in{channel}_label"] = f"{rail}\n"
        texts[f"{folder}/in{channel}_input"] = f"{millivolts}\n"
        texts[f"{folder}/curr{channel}_input"] = f"{milliamperes}\n"
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    write_program(root / "usr/bin/tegrastats", f"while true; do echo '{TEGRASTATS}'; sleep 0.1; done")
    return root


def write_program(path: Path, script: str) -> None:
    """Write a shell script as one of the board's programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)

"""Record what a version of TensorRT's Python bindings offers: the enums and methods that the agent may name.

    python record_surface.py tensorrt_cu12_bindings-10.3.0-cp311-none-manylinux_2_17_x86_64.whl

writes `10.3.json` beside this file. The wheels are NVIDIA's own, from PyPI (`tensorrt-bindings` 8.6.1, later ones
`tensorrt-cu12-bindings`); their libraries are not there, so that each undefined symbol gets a stub that is never
called. Needs gcc, nm and readelf, and the Python that the wheel was made for.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLASSES = (
    "Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser", "ParserError", "IOptimizationProfile", "ITensor",
    "IHostMemory", "ITimingCache", "Runtime", "ICudaEngine", "IExecutionContext", "ILogger", "Logger",
)  # fmt: skip
ENUMS = (
    "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "DeviceType", "TensorIOMode", "DataType",
)  # fmt: skip
DUMP = """
import ctypes, json, sys, importlib
for library in sys.argv[3:]:
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
sys.path.insert(0, sys.argv[1])
trt = importlib.import_module("tensorrt")
enums = {n: sorted(getattr(trt, n).__members__) for n in json.loads(sys.argv[2])["enums"] if hasattr(trt, n)}
classes = {}
for name in json.loads(sys.argv[2])["classes"]:
    one = getattr(trt, name, None)
    if one is not None:
        found = {n: getattr(one, n) for n in dir(one) if not n.startswith("_") or n == "__init__"}
        classes[name] = {n: (v.__doc__ or "").strip() if callable(v) else None for n, v in found.items()}
print(json.dumps({"enums": enums, "classes": classes}))
"""


def record(wheel: Path) -> Path:
    """Write the surface of one wheel and return the file."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
        (module,) = folder.glob("*/tensorrt.so")
        libraries = [str(path) for path in _stubs(module, folder)]
        asked = json.dumps({"enums": ENUMS, "classes": CLASSES})
        found = json.loads(
            subprocess.run(
                [sys.executable, "-c", DUMP, str(module.parent), asked, *libraries], check=True, capture_output=True
            ).stdout
        )
    surface = {
        "version": version,
        "wheel": wheel.name,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "enums": found["enums"],
        "classes": {
            name: {method: _signatures(doc) for method, doc in methods.items()}
            for name, methods in found["classes"].items()
        },
    }
    out = Path(__file__).with_name(f"{'.'.join(version.split('.')[:2])}.json")
    out.write_text(json.dumps(surface, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return out


def _signatures(doc: str | None) -> list[list[str]] | None:
    """Argument names of each overload, `self` left out and optional ones with `=`; None for a property."""
    if doc is None:
        return None
    found = re.findall(r"^(?:\d+\. )?\w+\(self: [\w.]+(?:, )?(.*)\) -> ", doc, re.MULTILINE)
    return [[_argument(one) for one in _split(arguments)] for arguments in found]


def _argument(text: str) -> str:
    return text.split(":")[0].strip() + ("=" if "=" in text else "")


def _split(arguments: str) -> list[str]:
    """Cut at commas that lie in no bracket."""
    parts, depth, start = [], 0, 0
    for i, sign in enumerate(arguments):
        depth += (sign in "[(<{") - (sign in "])>}")
        if sign == "," and depth == 0:
            parts.append(arguments[start:i])
            start = i + 1
    return [one for one in (*parts, arguments[start:]) if one.strip()]


def _stubs(module: Path, folder: Path) -> list[Path]:
    """Make one library for each of NVIDIA's that the module needs; the first holds every symbol that it lacks."""
    needed = re.findall(r"\[(libnv\w+\.so\.\d+)\]", _ask("readelf", "-d", str(module)))
    symbols = re.findall(r" U (\w+)$", _ask("nm", "-D", "--undefined-only", str(module)), re.MULTILINE)
    own = [one for one in symbols if re.search(r"[Nn]v|Infer|Onnx|createNv|Plugin", one) and not one.startswith("_ZNS")]
    made = []
    for i, name in enumerate(needed):
        source = "".join(f"void *{one}(void) {{ return 0; }}\n" for one in own) if i == 0 else ""
        (folder / "stub.c").write_text(source, encoding="ascii")
        made.append(folder / name)
        argv = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(made[-1]), str(folder / "stub.c")]
        subprocess.run(argv, check=True)
    return made


def _ask(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for given in sys.argv[1:]:
        sys.stdout.write(f"{record(Path(given))}\n")

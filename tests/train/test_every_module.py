"""Every module of the package imports where processes are spawned and POSIX modules are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# torch and its like choose their own POSIX modules by the system, so what is refused is refused to slimdeploy alone.
WINDOWS_LIKE = """
import builtins, importlib, multiprocessing, os, sys
real = builtins.__import__
def refuse(name, globals=None, *rest, **more):
    importer = (globals or {}).get("__name__", "")
    if name in ("fcntl", "resource", "pwd", "grp", "termios") and importer.startswith("slimdeploy"):
        raise ModuleNotFoundError(f"{importer} imports {name}", name=name)
    return real(name, globals, *rest, **more)
builtins.__import__ = refuse
multiprocessing.set_start_method("spawn")
"""


def names() -> list[str]:
    found = []
    for path in sorted((ROOT / "slimdeploy").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def test_every_module_imports_without_posix_modules_where_processes_are_spawned():
    code = WINDOWS_LIKE + "".join(f"importlib.import_module({name!r})\n" for name in names())
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert len(names()) > 50


def test_no_module_of_the_package_forks():
    forks = ("os.fork(", "os.forkpty(", 'get_context("fork', 'set_start_method("fork')
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "slimdeploy").rglob("*.py")]
    assert [call for call in forks if any(call in source for source in sources)] == []

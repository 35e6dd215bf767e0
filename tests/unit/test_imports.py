"""The light core needs no extra, imports point down, and nothing needs a system that only forks."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from slimdeploy._needs import EXTRAS, pip_line
from slimdeploy.cli.doctor import VERBS
from slimdeploy.lineage import write_json
from slimdeploy.records import Row, as_json

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "slimdeploy"
HEAVY = sorted({module for modules in EXTRAS.values() for module in modules} | {"scipy", "pandas", "PIL", "tqdm"})
# Rooms from the ground up; a room imports from its own row and the rows above it here.
ROWS = (
    ("errors", "board"),
    ("records", "fields", "files"),
    (
        "configs",
        "targets",
        "lineage",
        "outputs",
        "_alone",
        "_leftovers",
        "_progress",
        "_rename",
        "recipes",
        "_needs",
        "_cores",
        "channels",
    ),
    ("backends", "devices", "data", "yolo"),
    ("accuracy", "bench", "latency"),
    ("stages", "bundle", "report"),
    ("search", "pipeline", "demo"),
    ("cli",),
)
ROW_OF = {room: row for row, rooms in enumerate(ROWS) for room in rooms}
# Makes packages look as if they were not installed, also to importlib.util.find_spec.
HIDE = """
import importlib.machinery, sys
hidden, real = {hidden!r}, importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""
RUN = "\nsys.argv = ['slimdeploy', *{argv!r}]\nfrom slimdeploy.cli import main\nmain()\n"
# Takes away what only POSIX has, and the means to fork.
WINDOWS_LIKE = """
import multiprocessing, os, sys
for name in ("fcntl", "resource", "pwd"):
    sys.modules[name] = None
if hasattr(os, "fork"):
    del os.fork
multiprocessing.set_start_method("spawn")
"""
ROW = Row(name="dense", file="dense.pt", format="pt", precision="fp32", parameters=1, size_bytes=1, macs=1)
RECIPE = """
data = "data.yaml"
weights = "dense.pt"
[prune]
channels = 0.5
"""


def python(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds this checkout's package."""
    found = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run([sys.executable, "-c", found + code], cwd=cwd, capture_output=True, text=True, timeout=120)


def without_extras(*argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line where no extra is installed."""
    return python(HIDE.format(hidden=HEAVY) + RUN.format(argv=argv), cwd)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports_of(tree: ast.AST, *, everywhere: bool) -> set[str]:
    """Dotted names that a module imports; of `from a import b` both a and a.b. Type checking alone does not count."""
    found: set[str] = set()
    todo = list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += ast.iter_child_nodes(node)
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def is_light(module: str) -> bool:
    """Whether importing a module of the package reaches no extra; importing a.b also imports a."""
    seen: set[str] = set()
    todo = {module}
    while todo:
        one = todo.pop()
        if one.split(".")[0] in HEAVY:
            return False
        if one in modules() and one not in seen:
            seen.add(one)
            todo |= imports_of(modules()[one], everywhere=False) | {one.rpartition(".")[0]}
    return True


def test_help_works_without_any_extra():
    ended = without_extras("--help")
    assert ended.returncode == 0, ended.stderr
    assert all(verb in ended.stdout for verb in VERBS)


def test_targets_works_without_any_extra():
    ended = without_extras("targets")
    assert ended.returncode == 0, ended.stderr
    assert "orin-nano-8gb" in ended.stdout


def test_gate_works_without_any_extra(tmp_path):
    write_json(tmp_path / "bench.json", {"schema": 1, "title": "a", "rows": [as_json(ROW)], "notes": []})
    ended = without_extras("gate", str(tmp_path), "--max-size-mb", "1")
    assert ended.returncode == 0, ended.stderr


def test_doctor_works_without_any_extra_and_names_the_pip_lines():
    ended = without_extras("doctor", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {verb for verb, state in found["verbs"].items() if state["works"]} == {
        "bundle",
        "plan",
        "gate",
        "ship",
        "targets",
        "doctor",
    }
    assert {name: extra["install"] for name, extra in found["extras"].items()} == {n: pip_line(n) for n in EXTRAS}


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["train", "--data", "data.yaml", "--out", "out"], id="train"),
        pytest.param(["sparsify", "dense.pt", "--data", "data.yaml", "--out", "out"], id="sparsify"),
        pytest.param(["latency", "--target", "cpu", "--out", "out"], id="latency"),
        pytest.param(["prune", "dense.pt", "--channels", "0.5", "--out", "out"], id="prune"),
        pytest.param(["finetune", "dense.pt", "--data", "data.yaml", "--out", "out"], id="finetune"),
        pytest.param(["val", "model.onnx", "--data", "data.yaml"], id="val"),
        pytest.param(["export", "dense.pt", "--target", "jetson", "--out", "out"], id="export"),
        pytest.param(["build", "bundle"], id="build"),
        pytest.param(["bench", "model.onnx", "--out", "out"], id="bench"),
        pytest.param(["compare", "run", "--html", "report.html"], id="compare"),
        pytest.param(["run", "recipe.toml", "--out", "out"], id="run"),
        pytest.param(["search", "search.toml", "--out", "out"], id="search"),
        pytest.param(["demo", "--out", "out"], id="demo"),
        pytest.param(["visdrone", "run", "--out", "out"], id="visdrone"),
        pytest.param(["data", "check", "data.yaml"], id="data check"),
    ],
)
def test_a_verb_whose_extra_is_missing_says_which_pip_line_adds_it(argv, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "bench.json", {"schema": 1, "title": "a", "rows": [as_json(ROW)], "notes": []})
    given = sorted(path.name for path in tmp_path.iterdir())
    ended = without_extras(*argv, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert pip_line(VERBS[argv[0]]) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == given


def test_help_imports_none_of_the_heavy_packages():
    code = "import atexit, sys\natexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))"
    ended = python(code + RUN.format(argv=["--help"]))
    assert ended.returncode == 0, ended.stderr
    loaded = {name.split(".")[0] for name in ended.stderr.split()}
    assert "slimdeploy" in loaded
    assert loaded & set(HEAVY) == set()


def test_doctor_imports_none_of_the_packages_that_it_looks_for():
    code = "import atexit, sys\natexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))"
    ended = python(code + RUN.format(argv=["doctor"]))
    assert ended.returncode == 0, ended.stderr
    assert {name.split(".")[0] for name in ended.stderr.split()} & set(HEAVY) == set()


def test_importing_the_command_line_changes_no_environment_and_prints_nothing():
    code = "import os\nbefore = dict(os.environ)\nimport slimdeploy.cli\nassert dict(os.environ) == before"
    ended = python(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_every_module_of_the_light_core_imports_without_posix_modules_and_fork():
    light = [name for name in modules() if is_light(name)]
    assert {"slimdeploy.cli", "slimdeploy.lineage", "slimdeploy.targets", "slimdeploy.pipeline"} <= set(light)
    code = WINDOWS_LIKE + HIDE.format(hidden=HEAVY) + "".join(f"import {name}\n" for name in light)
    ended = python(code)
    assert ended.returncode == 0, ended.stderr


def test_every_module_has_its_place_in_the_house():
    assert sorted(name for name in modules() if "." in name and room_of(name) not in ROW_OF) == []


def test_imports_point_down():
    wrong = []
    for name, tree in modules().items():
        for imported in imports_of(tree, everywhere=True) & set(modules()):
            if "." in name and "." in imported and ROW_OF[room_of(imported)] > ROW_OF[room_of(name)]:
                wrong.append(f"{name} imports {imported}")
    assert sorted(wrong) == []


def test_the_package_itself_imports_nothing():
    assert imports_of(modules()["slimdeploy"], everywhere=True) - {"__future__", "__future__.annotations"} == set()


def test_ultralytics_is_imported_in_one_room():
    users = [n for n, tree in modules().items() if _imports(tree, "ultralytics")]
    assert users != []
    assert [name for name in users if room_of(name) != "yolo"] == []


def _imports(tree: ast.Module, package: str) -> bool:
    return any(name.split(".")[0] == package for name in imports_of(tree, everywhere=True))

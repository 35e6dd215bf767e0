"""The wheel and the sdist hold what a user needs, and pyproject.toml agrees with the package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from slimdeploy import __version__
from slimdeploy._needs import EXTRAS
from slimdeploy.cli.doctor import PACKAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "slimdeploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRA_REQUIREMENTS = PROJECT["project"]["optional-dependencies"]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "slimdeploy", "targets")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"
SHOW = "import json, slimdeploy.targets as t; print(json.dumps([t.__file__, t.load_target('nano').title]))"


def build(kind: str, source: Path, out: Path) -> Path:
    """Build the wheel or the sdist of a source tree without a network, and return the file."""
    subprocess.run([sys.executable, "-c", BUILD, kind, str(out)], cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is built, since building writes beside its sources."""
    copy = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(build("wheel", source, tmp_path_factory.mktemp("wheel"))) as packed:
        packed.extractall(unpacked)
    return unpacked


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", one)[0].lower() for one in requirements}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    targets = {name for name in files_below(wheel / "slimdeploy") if name.startswith("_targets/")}
    assert files_below(wheel / "slimdeploy") - targets == files_below(PACKAGE)


def test_the_wheel_holds_every_target(wheel):
    assert files_below(wheel / "slimdeploy" / "_targets") == files_below(ROOT / "targets")


def test_the_wheel_holds_the_licence_and_the_command(wheel):
    about = wheel / f"slimdeploy-{__version__}.dist-info"
    assert (about / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "slimdeploy = slimdeploy.cli:main" in (about / "entry_points.txt").read_text(encoding="utf-8")


def test_the_wheel_brings_nothing_but_the_package(wheel):
    assert sorted(path.name for path in wheel.iterdir()) == ["slimdeploy", f"slimdeploy-{__version__}.dist-info"]


def test_targets_load_from_an_installed_wheel(wheel, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(wheel)!r})\n{SHOW}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    where, title = json.loads(ended.stdout)
    assert Path(where).is_relative_to(wheel)
    assert title == "Jetson Nano"


def test_the_sdist_builds_the_same_wheel(source, wheel, tmp_path):
    for folder in ("sdist", "tree", "wheel"):
        (tmp_path / folder).mkdir()
    with tarfile.open(build("sdist", source, tmp_path / "sdist")) as packed:
        packed.extractall(tmp_path / "tree", filter="data")
    (tree,) = (tmp_path / "tree").iterdir()
    with zipfile.ZipFile(build("wheel", tree, tmp_path / "wheel")) as packed:
        assert {name for name in packed.namelist() if not name.endswith("/")} == files_below(wheel)


def test_every_folder_of_the_package_is_named_in_the_project_file():
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {*folders, "slimdeploy._targets"}


@pytest.mark.parametrize("path", sorted(p for p in PACKAGE.rglob("*") if p.is_dir() and any(p.glob("*.py"))))
def test_every_folder_with_code_is_a_package(path):
    assert (path / "__init__.py").is_file()


def test_the_light_core_asks_for_no_package_of_an_extra():
    core = requirement_names(PROJECT["project"]["dependencies"])
    extra = requirement_names([one for requirements in EXTRA_REQUIREMENTS.values() for one in requirements])
    assert core & extra == set()


@pytest.mark.parametrize("extra", sorted(EXTRA_REQUIREMENTS))
def test_every_requirement_has_a_lower_bound_or_a_pin(extra):
    own = [one for one in EXTRA_REQUIREMENTS[extra] if not one.startswith("slimdeploy[")]
    assert [one for one in own if ">=" not in one and "==" not in one.split(";")[0]] == []


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_brings_the_modules_that_are_looked_for(extra):
    brought = _closure(extra)
    for module in EXTRAS[extra]:
        names = PACKAGES.get(module, (module,))
        assert any(name.lower() in brought for name in names), module


def _closure(extra: str) -> set[str]:
    """Names of the packages that an extra brings, those of the extras that it names included."""
    own = EXTRA_REQUIREMENTS[extra]
    nested = re.findall(r"slimdeploy\[([\w,]+)\]", " ".join(own))
    below = {name for one in nested for other in one.split(",") for name in _closure(other)}
    return requirement_names(own) | below


def test_the_licence_is_the_whole_agpl():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "GNU AFFERO GENERAL PUBLIC LICENSE\n                       Version 3, 19 November 2007" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "AGPL-3.0-or-later"

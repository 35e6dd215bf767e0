"""A missing extra is one line with the pip line that adds it."""

from __future__ import annotations

import re

import pytest

from slimdeploy import _needs
from slimdeploy._needs import needs, pip_line, require
from slimdeploy.errors import MissingDependency


def import_with_need(extra, error):
    with needs(extra):
        raise error


def missing(module):
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(("extra", "module"), [("train", "torch"), ("onnx", "onnx.checker"), ("report", "jinja2")])
def test_a_missing_module_of_the_extra_names_the_pip_line(extra, module):
    with pytest.raises(MissingDependency, match=re.escape(pip_line(extra))):
        import_with_need(extra, missing(module))


@pytest.mark.parametrize("module", ["slimdeploy.nowhere", "left_pad", None])
def test_another_missing_module_is_a_bug_and_stays_one(module):
    with pytest.raises(ModuleNotFoundError):
        import_with_need("train", missing(module))


def test_a_library_that_the_system_lacks_names_the_apt_line():
    error = ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
    with pytest.raises(MissingDependency, match="apt install libgl1"):
        import_with_need("onnx", error)


def test_another_import_error_is_a_bug_and_stays_one():
    with pytest.raises(ImportError, match="cannot import name"):
        import_with_need("onnx", ImportError("cannot import name 'x'"))


def test_a_whole_extra_can_be_asked_for_before_work_begins(monkeypatch):
    monkeypatch.setattr(_needs, "is_installed", lambda module: module != "matplotlib")
    with pytest.raises(MissingDependency, match=re.escape(pip_line("train"))):
        require("train")


def test_an_extra_that_is_there_is_fine(monkeypatch):
    monkeypatch.setattr(_needs, "is_installed", lambda _module: True)
    assert require("train") is None

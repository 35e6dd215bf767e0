"""Searches with small stand-ins for trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import search_stand_in

from slimdeploy.search import run


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """The folder that stand-ins write into and take their faults from."""
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv("STAND_IN_LOG", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(search_stand_in.__file__).parent))
    return folder


@pytest.fixture
def search(log, tmp_path):
    """Search with stand-ins; gives the View in the end."""

    def search(name="out", *, slots=1, options=None, **written):
        path = search_stand_in.write_search(tmp_path, **written)
        asked = run.Options(walk=search_stand_in.WALK, slots=slots, **(options or {}))
        return run.start(path, tmp_path / name, asked)

    return search


@pytest.fixture
def go_on(log, tmp_path):
    """Go on with a search of stand-ins."""

    def go_on(name="out", **given):
        return run.go_on(tmp_path / name, run.Options(walk=search_stand_in.WALK, **given))

    return go_on

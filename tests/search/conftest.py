"""Searches with small stand-ins for trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import search_stand_in

from slimdeploy.search import run


def give_log(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make the folder that stand-ins write into and take their faults from; their locks are nobody else's."""
    folder.mkdir()
    (folder / "tmp").mkdir()
    patch.setenv("TMPDIR", str(folder / "tmp"))  # where workers lock the machine, which a real search may be using
    patch.setenv("STAND_IN_LOG", str(folder))
    patch.setenv("PYTHONPATH", str(Path(search_stand_in.__file__).parent))
    return folder


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """The folder that stand-ins write into and take their faults from."""
    return give_log(tmp_path / "log", monkeypatch)


@pytest.fixture(scope="session")
def ended(tmp_path_factory):
    """The folder of a search of eight trials that has ended, of which the third failed, and how it ended."""
    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        give_log(folder / "log", patch)
        search_stand_in.order("bug", "finetune", 2)
        path = search_stand_in.write_search(folder, trials=8, sections="[constraints]\nmax_p50_ms = 9")
        return folder / "out", run.start(path, folder / "out", run.Options(walk=search_stand_in.WALK))


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

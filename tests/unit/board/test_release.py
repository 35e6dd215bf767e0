"""The release that flies changes in one step or not at all, whatever fails and whenever the power does."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from small_bundle import put, write_small_bundle
from stand_in_agent import stand_in_agent

from slimdeploy.board import release, stage, whole
from slimdeploy.board.errors import AgentError, ArtifactError, DeviceError, UsageError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux")
CHANGES = ("symlink", "rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "open")  # calls that change the disk


def whole_way(board: Path, name: str) -> None:
    stage.stage(board, name)
    release.activate(board, name)
    release.prune(board, 1)


STEPS = {
    "activate": release.activate,
    "rollback": lambda board, _: release.rollback(board),
    "prune": lambda board, _: release.prune(board, 0),
    "the whole way": whole_way,
}


@pytest.fixture
def board(tmp_path) -> Path:
    return tmp_path / "board"


@pytest.fixture
def make(tmp_path):
    """Make a bundle whose model holds the given bytes."""
    return lambda model: write_small_bundle(tmp_path / model.decode(), model=model, agent=stand_in_agent())


@pytest.fixture
def ship(board, make):
    """Do on the board what a ship does; returns the release."""

    def ship(model: bytes, keep: int = release.KEPT) -> str:
        name = stage.receive(board, make(model))
        stage.stage(board, name)
        release.activate(board, name)
        release.prune(board, keep)
        return name

    return ship


def flying(board: Path) -> Path:
    """The bundle that `current` leads to, by the links alone, as a service would follow them."""
    return board / "current" / "bundle"


def test_a_release_flies_once_it_is_built_and_checked(board, ship):
    name = ship(b"one")
    assert (flying(board) / "model.fp32.onnx").read_bytes() == b"one"
    assert (board / "current" / "engine" / "model.engine").read_text(encoding="utf-8") == "built"
    assert release.status(board)["current"] == name


def test_two_releases_before_the_current_one_are_kept(board, ship):
    names = [ship(model) for model in (b"one", b"two", b"three", b"four")]
    assert [one["release"] for one in release.status(board)["releases"]] == sorted(names[1:])


def test_a_rollback_goes_back_one_release_at_a_time(board, ship):
    one, two, _ = (ship(model) for model in (b"one", b"two", b"three"))
    assert release.rollback(board)["current"] == two
    assert release.rollback(board)["current"] == one
    with pytest.raises(DeviceError, match="no release to go back to"):
        release.rollback(board)
    assert release.current(board) == one


def test_a_rollback_passes_over_a_release_that_is_damaged(board, ship):
    one, two, _ = (ship(model) for model in (b"one", b"two", b"three"))
    (board / "releases" / two / "bundle" / "model.fp32.onnx").write_bytes(b"rot")
    rolled = release.rollback(board)
    assert (rolled["current"], rolled["damaged"][0]["release"]) == (one, two)


def test_a_release_that_is_shipped_again_comes_after_the_others(board, ship):
    one, two = ship(b"one"), ship(b"two")
    stage.stage(board, one)
    release.activate(board, one)
    assert release.rollback(board)["current"] == two


def test_shipping_the_current_release_again_changes_nothing(board, ship):
    one = ship(b"one")
    before = release.current_number(board)
    stage.stage(board, one)
    release.activate(board, one)
    assert release.current_number(board) == before


def test_pruning_keeps_the_current_release_even_after_a_rollback(board, ship):
    one, two = ship(b"one"), ship(b"two")
    release.rollback(board)
    assert release.prune(board, 0)["removed"] == [two]
    assert release.status(board)["current"] == one


def test_the_order_of_releases_does_not_depend_on_the_clock(board, ship, monkeypatch):
    one = ship(b"one")
    for file in [board, *board.rglob("*")]:
        if not file.is_symlink():
            os.utime(file, (2e9, 2e9))  # as if the board's clock had been years ahead
    two = ship(b"two")
    assert (release.current(board), release.rollback(board)["current"]) == (two, one)


def test_a_board_that_never_got_anything_has_no_releases(board):
    told = release.status(board)
    assert (told["current"], told["previous"], told["releases"]) == (None, None, [])
    assert not board.exists()


def test_two_at_once_cannot_change_a_board(board):
    with release.locked(board), pytest.raises(DeviceError, match="somebody else is shipping"), release.locked(board):
        pass


@pytest.mark.parametrize("name", ["../../etc", "current", "A" * 64])
def test_what_is_no_hash_is_no_release(board, name):
    with pytest.raises(UsageError, match="is no release"):
        release.activate(board, name)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("build", "build failed: TensorRT 8.2 is too old", id="TensorRT too old for the graph"),
        pytest.param("die", r"build failed with signal 9: out of memory", id="build killed"),
        pytest.param("hang", r"build did not end within 0\.5 s", id="build hangs"),
        pytest.param("check", "check failed: the golden sample fails", id="golden sample fails"),
    ],
)
def test_a_bundle_that_fails_on_the_board_leaves_the_old_release_flying(board, ship, make, monkeypatch, fault, says):
    old = ship(b"old")
    monkeypatch.setenv("STAND_IN", fault)
    name = stage.receive(board, make(b"new"))
    with pytest.raises(DeviceError, match=says):
        stage.stage(board, name, {"build": 0.5 if fault == "hang" else 30, "check": 30})
    assert (release.current(board), (flying(board) / "model.fp32.onnx").read_bytes()) == (old, b"old")
    assert not (board / "releases" / name).exists()
    assert not (board / "staging" / name / "engine").exists()


def _alter(bundle: Path) -> None:
    (bundle / "model.fp32.onnx").write_bytes(b"evil!")


def _add(bundle: Path) -> None:
    (bundle / "sitecustomize.py").write_text("print('run')", encoding="utf-8")


def _link(bundle: Path) -> None:
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to("/etc/passwd")


def _forge(bundle: Path) -> None:
    put(bundle, "extra.bin", b"x")  # the manifest names it, so only the bundle's own hash tells


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        pytest.param(_alter, r"altered model\.fp32\.onnx", id="altered file"),
        pytest.param(_add, r"holds sitecustomize\.py, which is not part of it", id="extra file"),
        pytest.param(_link, "no ordinary file", id="link"),
        pytest.param(_forge, r"altered manifest\.json", id="altered manifest"),
        pytest.param(lambda bundle: (bundle / "labels.txt").unlink(), r"lacks labels\.txt", id="missing file"),
    ],
)
def test_a_bundle_that_was_harmed_on_its_way_is_refused_and_removed(board, ship, make, harm, says):
    old = ship(b"old")
    name = stage.receive(board, make(b"new"))
    harm(board / "staging" / name / "bundle")
    with pytest.raises(ArtifactError, match=says):
        stage.stage(board, name)
    assert release.current(board) == old
    assert not (board / "staging" / name).exists()


def test_a_bundle_without_an_agent_is_refused(board, tmp_path):
    bundle = write_small_bundle(tmp_path / "bundle")
    (bundle / "agent.pyz").unlink()
    manifest = whole.read_manifest(bundle)
    del manifest["files"]["agent.pyz"]
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArtifactError, match="has no agent"):
        stage.stage(board, stage.receive(board, bundle))


def run_killed(step: str, call: int, board: Path, name: str) -> int:
    """Run a step in a process that dies without a word just before the given call; return its exit code."""
    child = os.fork()
    if child == 0:
        calls = itertools.count(1)
        for one in CHANGES:
            setattr(os, one, _deadly(getattr(os, one), calls, call))
        try:
            STEPS[step](board, name)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must see that it was no death
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _deadly(real, calls, deadly_call):
    def call(*arguments, **named):
        if next(calls) == deadly_call:
            os.kill(os.getpid(), signal.SIGKILL)  # as at a power cut
        return real(*arguments, **named)

    return call


@pytest.fixture
def quick_agent(monkeypatch):
    """Build and check without a process: here, what happens around them counts."""

    def ask(folder, verb, *_):
        (folder / "engine").mkdir(exist_ok=True)
        (folder / "engine" / "model.engine").write_text("built", encoding="utf-8")
        return {"schema": 1}

    monkeypatch.setattr(stage, "ask_agent", ask)


@pytest.mark.parametrize("step", STEPS)
def test_whenever_the_power_fails_a_whole_release_flies_and_the_next_ship_succeeds(
    tmp_path, make, ship, board, quick_agent, step
):
    ship(b"one"), ship(b"two")
    new = make(b"new")
    name = stage.receive(board, new)
    if step == "activate":
        stage.stage(board, name)
    deaths = 0
    for call in range(1, 200):
        copy = tmp_path / f"board{call}"
        shutil.copytree(board, copy, symlinks=True)
        code = run_killed(step, call, copy, name)
        assert code in (0, -signal.SIGKILL)
        assert (flying(copy) / "model.fp32.onnx").read_bytes() in (b"one", b"two", b"new")
        assert release.damage((copy / "current").resolve()) is None
        assert [release.damage(one) for one in (copy / "releases").iterdir() if release.damage(one)] == []
        _next_ship_succeeds(copy, new)
        if code == 0:
            break
        deaths += 1
    assert code == 0, "the step never ran to its end"
    assert deaths >= 3


def _next_ship_succeeds(board: Path, bundle: Path) -> None:
    with release.locked(board):
        name = stage.receive(board, bundle)
        stage.stage(board, name)
        release.activate(board, name)
        release.prune(board)
    assert release.status(board)["current"] == name


def test_an_error_of_the_board_has_the_form_of_the_desks_errors(board):
    with pytest.raises(AgentError) as failed:
        release.activate(board, "a" * 64)
    assert set(failed.value.as_json()) == {"schema", "error", "exit_code", "wrong", "wanted", "do"}

"""What runs on a board is what its signature covers, and no bundle judges itself."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_bundle import put, write_small_bundle
from sshd_board import make_key
from stand_in_agent import stand_in_agent

from slimdeploy.board import receive, release, service, stage
from slimdeploy.board.errors import AgentError, ArtifactError, DeviceError
from slimdeploy.board.machine import Machine
from slimdeploy.bundle.ansible import RECEIVE
from slimdeploy.bundle.sign import sign

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="boards run Linux"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here"),
]
EVIL = "import pathlib, sys\npathlib.Path({marker!r}).write_text(' '.join(sys.argv))\nprint('{{\"schema\": 1}}')\n"


@pytest.fixture
def board(tmp_path, monkeypatch) -> Path:
    """A board's folder; the system's list of signers is a file of the test's."""
    monkeypatch.setattr(receive, "SYSTEM_SIGNERS", tmp_path / "etc" / "allowed_signers")
    (tmp_path / "board").mkdir()
    return tmp_path / "board"


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("pilot", "stranger"):
        make_key(folder / name)
    return folder


@pytest.fixture
def make(tmp_path, keys):
    """Make a bundle, signed with a key where one is named, with an agent of the test's."""

    def make(model: bytes, key: str = "", agent: bytes = b"") -> Path:
        plain = write_small_bundle(tmp_path / f"plain-{model.decode()}", model=model, agent=agent or stand_in_agent())
        return sign(plain, keys / key, tmp_path / f"signed-{model.decode()}") if key else plain

    return make


def ask_for_signatures(board: Path, keys: Path, key: str = "pilot") -> None:
    public = (keys / key).with_suffix(".pub").read_text(encoding="utf-8")
    (board / "allowed_signers").write_text(f"{key}@example.com {public}", encoding="utf-8")


def install(board: Path, bundle: Path) -> str:
    """Receive and activate a bundle with this process' own code, and return its name."""
    name = stage.receive(board, bundle)
    stage.stage(board, name)
    release.activate(board, name)
    return name


def evil_agent(marker: Path) -> bytes:
    """Return an agent that admits anything, and leaves a mark when it runs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__main__.py", EVIL.format(marker=str(marker)))
    return packed.getvalue()


def receive_from(script: Path, bundle: Path, board: Path) -> subprocess.CompletedProcess[str]:
    """Run the file that Ansible and Mender run."""
    return subprocess.run([sys.executable, str(script), str(bundle), str(board)], capture_output=True, text=True)


# Who judges whom


def test_the_agent_of_an_unsigned_bundle_does_not_run_where_a_signature_is_asked_for(board, keys, make, tmp_path):
    ask_for_signatures(board, keys)
    ended = receive_from(Path(receive.__file__), make(b"evil", agent=evil_agent(tmp_path / "ran")), board)
    assert (ended.returncode, "the bundle is not signed" in ended.stderr) == (2, True)
    assert not (tmp_path / "ran").exists()
    assert not (board / "current").exists()


def test_the_agent_of_a_bundle_that_a_stranger_signed_does_not_run(board, keys, make, tmp_path):
    ask_for_signatures(board, keys)
    ended = receive_from(Path(receive.__file__), make(b"evil", "stranger", evil_agent(tmp_path / "ran")), board)
    assert (ended.returncode, "signature does not hold" in ended.stderr) == (2, True)
    assert not (tmp_path / "ran").exists()


def test_an_agent_that_was_exchanged_after_the_bundle_was_signed_does_not_run(board, keys, make, tmp_path):
    ask_for_signatures(board, keys)
    bundle = make(b"new", "pilot")
    (bundle / "agent.pyz").write_bytes(evil_agent(tmp_path / "ran"))
    ended = receive_from(Path(receive.__file__), bundle, board)
    assert (ended.returncode, "altered agent.pyz" in ended.stderr) == (2, True)
    assert not (tmp_path / "ran").exists()


def test_a_first_bundle_that_is_signed_is_received_by_its_own_agent(board, keys, make):
    ask_for_signatures(board, keys)
    bundle = make(b"new", "pilot")
    ended = receive_from(bundle / RECEIVE, bundle, board)
    assert ended.returncode == 0, ended.stderr
    assert (board / "current" / "bundle" / "model.fp32.onnx").read_bytes() == b"new"


def test_where_a_release_is_installed_its_agent_judges_the_next_bundle(board, make, tmp_path):
    install(board, make(b"old"))
    bundle = make(b"evil", agent=evil_agent(tmp_path / "ran"))
    put(bundle, "labels.txt", b"car\n")
    (bundle / "labels.txt").write_bytes(b"altered")
    ended = receive_from(Path(receive.__file__), bundle, board)
    assert (ended.returncode, "altered labels.txt" in ended.stderr) == (2, True), ended.stderr
    assert not (tmp_path / "ran").exists()


def test_an_installed_release_that_is_not_signed_does_not_judge_once_signatures_are_asked_for(
    board, keys, make, tmp_path
):
    install(board, make(b"evil", agent=evil_agent(tmp_path / "ran")))
    (tmp_path / "ran").unlink()  # it ran at its own build, when the board asked for no signature
    ask_for_signatures(board, keys)
    ended = receive_from(Path(receive.__file__), make(b"new", "pilot"), board)
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "ran").exists()
    assert (board / "current" / "bundle" / "model.fp32.onnx").read_bytes() == b"new"


# What the signature covers


def test_what_was_planted_beside_a_bundle_does_not_come_into_the_release(board, make):
    name = stage.receive(board, make(b"new"))
    (board / "staging" / name / "engine").mkdir()
    for planted in ("engine/planted.engine", "sitecustomize.py"):
        (board / "staging" / name / planted).write_text("evil", encoding="utf-8")
    stage.stage(board, name)
    assert sorted(path.name for path in (board / "releases" / name).iterdir()) == ["bundle", "engine"]
    assert [path.name for path in (board / "releases" / name / "engine").iterdir()] == ["model.engine"]


@pytest.mark.parametrize("linked", ["staging/{name}/bundle", "staging/{name}", "staging"])
def test_a_link_in_the_way_of_a_bundle_is_refused(board, make, tmp_path, linked):
    name = stage.receive(board, make(b"new"))
    path = board / linked.format(name=name)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(AgentError, match="is no folder"):
        stage.stage(board, name)
    assert not (board / "releases" / name).exists()
    assert (tmp_path / "moved").is_dir()  # what a link leads to is not touched


def test_a_link_in_an_engine_is_refused_at_activation(board, make):
    name = stage.receive(board, make(b"new"))
    stage.stage(board, name)
    (board / "releases" / name / "engine" / "other.engine").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="no ordinary file"):
        release.activate(board, name)


def test_a_release_that_was_altered_since_it_was_received_is_not_activated(board, make):
    name = stage.receive(board, make(b"new"))
    stage.stage(board, name)
    (board / "releases" / name / "bundle" / "agent.pyz").write_bytes(b"evil")
    with pytest.raises(ArtifactError, match=r"altered agent\.pyz"):
        release.activate(board, name)
    assert release.current(board) is None


def test_an_unsigned_release_is_not_activated_once_signatures_are_asked_for(board, keys, make):
    name = stage.receive(board, make(b"new"))
    stage.stage(board, name)
    ask_for_signatures(board, keys)
    with pytest.raises(ArtifactError, match="the bundle is not signed"):
        release.activate(board, name)


def test_a_rollback_does_not_go_back_to_an_unsigned_release_once_signatures_are_asked_for(board, keys, make):
    old = install(board, make(b"old"))
    ask_for_signatures(board, keys)
    new = install(board, make(b"new", "pilot"))
    with pytest.raises(DeviceError, match=f"{old[:12]} may not run: the bundle is not signed"):
        service.rollback(board, Machine())
    assert release.current(board) == new


def test_a_rollback_passes_over_an_unsigned_release_to_a_signed_one(board, keys, make):
    signed = install(board, make(b"one", "pilot"))
    unsigned = install(board, make(b"two"))
    install(board, make(b"three", "pilot"))
    ask_for_signatures(board, keys)
    rolled = release.rollback(board)
    assert (rolled["current"], [one["release"] for one in rolled["damaged"]]) == (signed, [unsigned])


def test_an_activation_that_leads_out_of_the_releases_is_none(board, make, tmp_path):
    install(board, make(b"one")), install(board, make(b"two"))
    (tmp_path / "elsewhere").mkdir()
    outside = tmp_path / "elsewhere" / ("a" * 64)
    outside.mkdir()
    (board / "activations" / "000001").unlink()
    (board / "activations" / "000001").symlink_to(outside)
    with pytest.raises(DeviceError, match="no release to go back to"):
        release.rollback(board)


# The list of signers


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(_dangling, id="dangling link"),
        pytest.param(Path.mkdir, id="folder"),
        pytest.param(Path.touch, id="empty"),
        pytest.param(lambda path: path.write_text("# nobody yet\n\n", encoding="utf-8"), id="comments alone"),
        pytest.param(lambda path: os.mkfifo(path), id="pipe"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="no text"),
    ],
)
@pytest.mark.parametrize("key", ["", "pilot"])
def test_a_list_of_signers_that_cannot_be_used_lets_nobody_in(board, make, broken, key):
    broken(board / "allowed_signers")
    with pytest.raises(AgentError, match=r"list of signers|not signed|signature does not hold"):
        install(board, make(b"new", key))
    assert release.current(board) is None


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root reads every file")
def test_a_list_of_signers_that_cannot_be_read_lets_nobody_in(board, keys, make):
    ask_for_signatures(board, keys)
    (board / "allowed_signers").chmod(0)
    with pytest.raises(AgentError, match="list of signers"):
        install(board, make(b"new", "pilot"))


def test_the_systems_list_of_signers_outranks_the_users(board, keys, make, tmp_path):
    (tmp_path / "etc").mkdir()
    ask_for_signatures(tmp_path / "etc", keys, "pilot")
    ask_for_signatures(board, keys, "stranger")
    with pytest.raises(ArtifactError, match="signature does not hold"):
        install(board, make(b"evil", "stranger"))
    install(board, make(b"new", "pilot"))


def test_a_systems_folder_of_signers_that_leads_nowhere_lets_nobody_in(board, make, tmp_path):
    (tmp_path / "etc").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(AgentError, match="not signed"):
        install(board, make(b"new"))


# Folders


def test_every_folder_that_a_release_comes_through_is_this_users_alone(tmp_path, make):
    board = tmp_path / "fresh" / "board"
    with release.locked(board):
        install(board, make(b"new"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (board, *map(board.joinpath, FOLDERS))}
    assert set(modes.values()) == {0o700}


FOLDERS = ("releases", "staging", "activations")


def test_folders_that_others_could_enter_are_closed(board):
    for name in FOLDERS:
        (board / name).mkdir()
        (board / name).chmod(0o777)
    with release.locked(board):
        pass
    assert {stat.S_IMODE((board / name).stat().st_mode) for name in (".", *FOLDERS)} == {0o700}


def test_a_folder_that_holds_other_things_too_is_left_as_it_is(board):
    (board / "notes.txt").touch()
    board.chmod(0o755)
    with release.locked(board):
        pass
    assert stat.S_IMODE(board.stat().st_mode) == 0o755


def test_a_lock_that_is_a_link_is_not_written_through(board, tmp_path):
    (tmp_path / "precious").write_text("kept", encoding="utf-8")
    (board / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), release.locked(board):
        pass
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "kept"

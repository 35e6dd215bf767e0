"""Every fault of the README's table, provoked: the release that flew before still flies, and the user is told why."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sshd_board import descendants, kill, make_key, when, write_script

from slimdeploy.board import release
from slimdeploy.board.errors import DeviceError

README = Path(__file__).parents[2] / "README.md"
BIG = random.Random(0).randbytes(6 << 20)  # as weights, it cannot be compressed

# The rows of the README's table, and the test that provokes each.
TESTED = {
    "link cut during the transfer": "test_a_cut_link_is_told_and_the_transfer_goes_on_where_it_stopped",
    "disk too small": "test_a_disk_that_is_too_small_is_told_before_anything_is_sent",
    "disk fills up during the transfer": "test_a_disk_that_fills_up_during_the_transfer_is_told",
    "power lost at any step of activation": (
        "test_whenever_the_power_fails_a_whole_release_flies_and_the_next_ship_succeeds"
    ),
    "power lost during the build": "test_a_board_that_loses_power_while_it_builds_keeps_what_flew",
    "file damaged on its way": "test_a_file_that_was_damaged_on_its_way_is_refused",
    "key that the board does not know": "test_a_key_that_the_board_does_not_know_is_told",
    "host key changed": "test_a_host_key_that_changed_is_told",
    "unsigned, wrongly signed or altered bundle": "test_a_bundle_of_somebody_else_is_refused",
    "the service does not stay up with the new release": (
        "test_a_release_with_which_the_service_does_not_stay_up_is_taken_back"
    ),
    "slower, or draws more, than the bundle's limits": (
        "test_a_bundle_that_exceeds_its_limits_is_refused_and_the_release_before_stays"
    ),
    "golden sample fails": "test_what_fails_on_the_board_is_told_in_its_words",
    "build fails": "test_what_fails_on_the_board_is_told_in_its_words",
    "build hangs": "test_what_fails_on_the_board_is_told_in_its_words",
    "two ships at once": "test_of_two_desks_that_ship_at_once_one_is_refused_and_the_other_ships",
    "desk lost in the middle of a ship": (
        "test_a_desk_that_is_lost_without_a_word_holds_the_lock_no_longer_than_its_time"
    ),
    "board's clock off by a year": "test_a_board_whose_clock_is_a_year_off_ships_and_rolls_back",
    "board does not answer": "test_a_board_that_does_not_answer_is_given_up",
    "board hangs during the transfer": "test_a_board_that_hangs_in_the_middle_of_the_transfer_is_given_up",
    "another board": "test_another_board_is_refused_unless_forced",
    "TensorRT too old for the graph": "test_a_tensorrt_that_is_too_old_is_told_before_anything_is_sent",
    "no Python on the board, or below 3.8": "test_a_board_without_python_is_told",
    "no ssh at the desk, or neither rsync nor sftp": "test_a_desk_that_lacks_a_program_is_told",
    "a bundle whose own agent skips the checks (Ansible, Mender)": (
        "test_the_agent_of_an_unsigned_bundle_does_not_run_where_a_signature_is_asked_for"
    ),
    "files planted beside a bundle in `staging`": (
        "test_what_was_planted_beside_a_bundle_does_not_come_into_the_release"
    ),
    "a link in place of a folder in `staging` or `releases`": "test_a_link_in_the_way_of_a_bundle_is_refused",
    "a rollback to an unsigned release, once signatures are asked for": (
        "test_a_rollback_does_not_go_back_to_an_unsigned_release_once_signatures_are_asked_for"
    ),
    "a list of signers that is a dangling link, a folder, unreadable or empty": (
        "test_a_list_of_signers_that_cannot_be_used_lets_nobody_in"
    ),
    "a board whose answers are malformed or hostile": "test_one_such_board_ends_no_command_for_the_others",
    "a board whose output never ends": "test_output_without_end_costs_bounded_memory_and_ends_in_time",
    "a malformed request to a board, or names that lead outside": (
        "test_a_session_answers_one_request_after_another_whatever_they_are"
    ),
    "a line break or another control character in an address, a folder or a source": (
        "test_a_folder_that_breaks_out_of_its_line_is_refused"
    ),
    "an archive that grows beyond what it may, or whose manifest is wrong": (
        "test_a_small_archive_that_grows_into_gigabytes_is_refused_by_its_manifest"
    ),
    "a cut-off archive in a search's shared cache": (
        "test_an_archive_that_was_cut_off_is_named_and_replaced_by_what_is_made_again"
    ),
    "links in an archive of a search's shared cache": "test_an_archive_of_links_writes_nothing_outside",
    "a damaged line of tegrastats, a sensor that says `nan`": (
        "test_a_line_that_is_no_utf_8_is_skipped_and_the_next_is_read"
    ),
    "`run` is ended by SIGTERM or SIGHUP": "test_a_run_that_is_ended_finishes_its_video",
    "a damaged video": "test_a_damaged_video_is_no_success",
    "a camera that gives nothing within `--patience`": "test_a_camera_that_gives_nothing_is_no_success",
    "stdout is closed or full": "test_a_stdout_that_takes_nothing_is_told_in_one_line",
    "a bundle for TensorRT where there is none": "test_a_bundle_for_tensorrt_needs_it_or_another_runtime_by_name",
}


def test_every_fault_of_the_readme_is_provoked_by_a_test():
    table = (
        README.read_text(encoding="utf-8").partition("<!-- faults: begin -->")[2].partition("<!-- faults: end -->")[0]
    )
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert rows == list(TESTED)
    tests = "".join(path.read_text(encoding="utf-8") for path in README.parent.glob("tests/**/test_*.py"))
    assert [name for name in TESTED.values() if f"def {name}(" not in tests] == []


@pytest.fixture
def flying(make_board, make_bundle, slimdeploy):
    """A board on which the release `old` flies."""
    board = make_board()
    assert slimdeploy("ship", make_bundle(b"old"), "--to", board.address)[0] == 0
    return board


def processes(*words: str) -> list[int]:
    """Return the processes whose command lines hold all the words."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(entry.parent.name))
    return found


def received_bytes(board) -> int:
    """How much of the model has come into staging."""
    return sum(path.stat().st_size for path in board.root.glob("staging/*/bundle/model.fp32.onnx"))


def test_a_cut_link_is_told_and_the_transfer_goes_on_where_it_stopped(flying, make_bundle, slimdeploy):
    bundle = make_bundle(BIG, name="big")
    to = ("--to", flying.address)
    client = str(flying.folder / "ssh_config")
    cut = when(lambda: received_bytes(flying) > 2 << 20, lambda: kill(processes("ssh", client, "rsync --server")))
    code, _, stderr = slimdeploy("ship", bundle, *to, "--rate", "3000")
    cut.join()
    assert (code, flying.model()) == (4, b"old")
    assert "broke during the transfer" in stderr
    assert "goes on where it stopped" in stderr
    here = received_bytes(flying)
    assert here > 1 << 20
    code, stdout, stderr = slimdeploy("ship", bundle, *to, "--json")
    assert code == 0, stderr
    sent = int(re.search(r'"bytes": (\d+)', stdout)[1])
    assert sent < len(BIG) - here + (1 << 20)
    assert flying.model() == BIG


def test_sftp_goes_on_where_it_stopped_too(make_board, make_bundle, slimdeploy):
    board = make_board(programs=("ssh-keygen",))
    bundle = make_bundle(BIG, name="big")
    client = str(board.folder / "ssh_config")
    cut = when(lambda: received_bytes(board) > 1 << 20, lambda: kill(processes("ssh", client, "-s")))
    code, _, stderr = slimdeploy("ship", bundle, "--to", board.address, "--rate", "3000")
    cut.join()
    assert (code, "broke during the transfer" in stderr) == (4, True), stderr
    assert received_bytes(board) > 1 << 20
    code, _, stderr = slimdeploy("ship", bundle, "--to", board.address)
    assert code == 0, stderr
    assert board.model() == BIG


@pytest.fixture
def small_disk(flying):
    """Put the board's folder on a disk of 4 MB, in the way that a test can."""
    disk = flying.folder / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]).returncode
    ):
        pytest.skip("a small disk can be mounted by root alone")
    shutil.copytree(flying.root, disk / "flight", symlinks=True)
    flying.root = disk / "flight"
    yield disk
    subprocess.run(["/bin/umount", str(disk)], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(flying, small_disk, make_bundle, slimdeploy):
    code, _, stderr = slimdeploy("ship", make_bundle(BIG, name="big"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert re.search(r"disk has \d+ MB free; wanted: \d+ MB for the bundle and its engine", stderr)
    assert not (flying.root / "staging").exists()


def test_a_disk_that_fills_up_during_the_transfer_is_told(flying, small_disk, make_bundle, monkeypatch, slimdeploy):
    from slimdeploy.cli import ship
    from slimdeploy.configs import ShipConfig

    config = ShipConfig(spare_mib=0, engine_factor=0, rate_kbps=1000)
    monkeypatch.setattr(ship, "build", lambda *_: config)  # no flag leaves out the room for the engine
    bundle = make_bundle(BIG[: 3 << 20], name="big")
    filler = small_disk / "filler"
    filled = when(lambda: received_bytes(flying) > 0, lambda: fill(filler))
    code, _, stderr = slimdeploy("ship", bundle, "--to", flying.address)
    filled.join()
    assert (code, flying.model()) == (4, b"old")
    assert "is full" in stderr
    assert "slimdeploy ship --prune" in stderr


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 16))
        except OSError:
            return


def test_a_board_that_loses_power_while_it_builds_keeps_what_flew(make_board, make_bundle, slimdeploy):
    board = make_board(environment={"STAND_IN": "hang"})
    name = release_by_hand(board.root, make_bundle(b"old"))
    build = (str(board.root / "staging"), "agent.pyz", "build")
    cut = when(lambda: processes(*build), lambda: kill(descendants(board.process.pid)))
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--build-timeout", "30")
    cut.join()
    assert (code, "broke during 'stage'" in stderr) == (4, True), stderr
    assert (release.current(board.root), board.model()) == (name, b"old")


def test_a_file_that_was_damaged_on_its_way_is_refused(flying, make_bundle, slimdeploy):
    rsync = flying.folder / "board_bin" / "rsync"
    rsync.unlink()
    damage = f"for file in {flying.root}/staging/*/bundle/labels.txt; do echo lorry >> $file; done"
    write_script(rsync, f'{shutil.which("rsync", path="/usr/bin")} "$@"; code=$?; {damage}; exit $code')
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "holds an altered labels.txt" in stderr


def test_a_key_that_the_board_does_not_know_is_told(flying, make_bundle, slimdeploy):
    (flying.folder / "authorized_keys").write_text("", encoding="utf-8")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "accepts none of your keys" in stderr
    assert "ssh-copy-id" in stderr


def test_a_host_key_that_changed_is_told(flying, make_bundle, slimdeploy):
    flying.trust(make_key(flying.folder / "other_host_key"))
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "host key of ssh://drone" in stderr
    assert "ssh-keygen -R" in stderr


def test_a_host_key_that_is_not_known_is_told(flying, make_bundle, slimdeploy):
    (flying.folder / "known_hosts").write_text("", encoding="utf-8")
    config = flying.folder / "ssh_config"
    config.write_text(config.read_text(encoding="utf-8") + " StrictHostKeyChecking yes\n", encoding="utf-8")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, "is not known; do: log in once: ssh drone" in stderr) == (4, True), stderr


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param("check", "the golden sample fails", id="golden sample"),
        pytest.param("build", "build failed: TensorRT 8.2 is too old for the graph", id="build"),
        pytest.param("die", "build failed with signal 9", id="build killed"),
        pytest.param("hang", "build did not end within 1 s", id="build hangs"),
    ],
)
def test_what_fails_on_the_board_is_told_in_its_words(make_board, make_bundle, slimdeploy, fault, says):
    board = make_board(environment={"STAND_IN": fault})
    old = make_bundle(b"old")
    name = release_by_hand(board.root, old)
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--build-timeout", "1")
    assert (code, release.current(board.root)) == (4, name)
    assert says in stderr


def release_by_hand(root: Path, bundle: Path) -> str:
    """Make a bundle the current release without a build."""
    from slimdeploy.board.stage import receive

    name = receive(root, bundle)
    release.admit(root, name)
    release.activate(root, name)
    return name


def test_two_ships_at_once_do_not_meet(flying, make_bundle, slimdeploy):
    with release.locked(flying.root):
        code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "somebody else is shipping to this board now" in stderr
    assert slimdeploy("ship", make_bundle(b"new", name="again"), "--to", flying.address)[0] == 0


def start_ship(bundle, board, **settings) -> subprocess.Popen[str]:
    """Ship from a desk in a process of its own."""
    source = (
        "import sys; from pathlib import Path; from slimdeploy.configs import ShipConfig\n"
        "from slimdeploy.devices.address import parse_address; from slimdeploy.errors import SlimdeployError\n"
        "from slimdeploy.stages.ship import ship\n"
        f"try: ship(Path(sys.argv[1]), parse_address(sys.argv[2]), ShipConfig(**{settings!r}))\n"
        "except SlimdeployError as error: sys.stderr.write(str(error)); sys.exit(error.exit_code)\n"
    )
    argv = [sys.executable, "-c", source, str(bundle), board.address]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)


def test_of_two_desks_that_ship_at_once_one_is_refused_and_the_other_ships(flying, make_bundle):
    with start_ship(make_bundle(BIG, name="big"), flying, rate_kbps=1500) as first:
        wait_for(lambda: received_bytes(flying) > 0)
        with start_ship(make_bundle(b"other"), flying) as second:
            assert (second.wait(60), "somebody else is shipping" in second.stderr.read()) == (4, True)
        assert first.wait(60) == 0, first.stderr.read()
    assert flying.model() == BIG


def test_a_desk_that_dies_in_the_middle_of_a_ship_leaves_no_lock(flying, make_bundle, slimdeploy):
    with start_ship(make_bundle(BIG, name="big"), flying, rate_kbps=1500) as desk:
        wait_for(lambda: received_bytes(flying) > 0)
        kill([desk.pid])
    wait_for(lambda: is_free(flying.root))
    assert flying.model() == b"old"
    assert slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)[0] == 0


def test_a_desk_that_is_lost_without_a_word_holds_the_lock_no_longer_than_its_time(flying, make_bundle, slimdeploy):
    with start_ship(make_bundle(BIG, name="big"), flying, rate_kbps=500, silence_s=3.0) as desk:
        wait_for(lambda: received_bytes(flying) > 0)
        lost = [desk.pid, *descendants(desk.pid)]
        for pid in lost:  # as where a radio link ends: nothing is closed, and nothing more is said
            os.kill(pid, signal.SIGSTOP)
        assert not is_free(flying.root)
        wait_for(lambda: is_free(flying.root))
        code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
        kill(lost)
    assert (code, flying.model()) == (0, b"new"), stderr


def wait_for(holds) -> None:
    ends = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_free(root: Path) -> bool:
    """Whether nobody holds the board's lock."""
    try:
        with release.locked(root):
            return True
    except DeviceError:
        return False


@pytest.mark.parametrize("offset", ["-366d", "+366d"])
def test_a_board_whose_clock_is_a_year_off_ships_and_rolls_back(make_board, make_bundle, slimdeploy, offset):
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("faketime is not installed")
    board = make_board(python=f"{faketime} -f {offset} {sys.executable}")
    slimdeploy("ship", make_bundle(b"old"), "--to", board.address)
    write_script(board.folder / "board_bin" / "python3", f'exec {sys.executable} "$@"')  # the clock is set meanwhile
    slimdeploy("ship", make_bundle(b"mid"), "--to", board.address)
    write_script(board.folder / "board_bin" / "python3", f'exec {faketime} -f {offset} {sys.executable} "$@"')
    code, stdout, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address, "--json")
    assert code == 0, stderr
    assert "the board's clock is 366 days" in stdout
    for model in (b"mid", b"old"):
        assert slimdeploy("ship", "--rollback", "--to", board.address)[0] == 0
        assert board.model() == model


def test_a_board_that_does_not_answer_is_given_up(flying, make_bundle, slimdeploy):
    os.kill(flying.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address, "--connect-timeout", "1")
    assert (code, flying.model()) == (4, b"old")
    assert "does not answer" in stderr
    assert time.monotonic() - started < 30


def test_a_board_that_hangs_in_the_middle_of_the_transfer_is_given_up(flying, make_bundle, slimdeploy):
    hung = when(
        lambda: received_bytes(flying) > 1 << 20,
        lambda: [os.kill(pid, signal.SIGSTOP) for pid in descendants(flying.process.pid)],
    )
    bundle = make_bundle(BIG, name="big")
    code, _, stderr = slimdeploy("ship", bundle, "--to", flying.address, "--rate", "3000", "--stall-timeout", "3")
    hung.join()
    kill(descendants(flying.process.pid))
    assert (code, flying.model()) == (4, b"old")
    assert "does not answer any more" in stderr or "broke during the transfer" in stderr, stderr


def test_another_board_is_refused_unless_forced(flying, make_bundle, slimdeploy):
    bundle = make_bundle(b"new", target="nano")
    code, _, stderr = slimdeploy("ship", bundle, "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "is another board: NVIDIA Jetson Orin Nano" in stderr
    assert "--force-target" in stderr
    assert not (flying.root / "staging").exists()
    assert slimdeploy("ship", bundle, "--to", flying.address, "--force-target")[0] == 0


def test_a_bundle_for_a_jetson_is_refused_by_a_machine_that_is_none(make_bundle, slimdeploy, tmp_path):
    code, _, stderr = slimdeploy("ship", make_bundle(b"new", target="jetson"), "--to", f"local:{tmp_path / 'flight'}")
    assert (code, "is no Jetson" in stderr) == (4, True), stderr
    assert not (tmp_path / "flight").exists()


def test_a_tensorrt_that_is_too_old_is_told_before_anything_is_sent(flying, make_bundle, slimdeploy):
    status = flying.folder / "system" / "var" / "lib" / "dpkg" / "status"
    status.write_text("Package: libnvinfer8\nStatus: install ok installed\nVersion: 8.4.1-1\n", encoding="utf-8")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert "TensorRT 8.4.1 on ssh://drone" in stderr
    assert "is too old for the graph; wanted: Jetson Orin Nano 8GB (Super) with TensorRT 8.5.2 or newer" in stderr


def test_a_board_without_python_is_told(make_board, make_bundle, slimdeploy):
    board = make_board(python="")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address)
    assert (code, "has no python3; wanted: Python 3.8 or newer there" in stderr) == (4, True), stderr
    assert not board.root.exists()


def test_a_board_whose_python_is_too_old_is_told(make_board, make_bundle, slimdeploy):
    old = "import sys; sys.version_info = (3, 6, 9); exec(sys.argv[2])"
    board = make_board()
    write_script(board.folder / "board_bin" / "python3", f"exec {sys.executable} -c '{old}' \"$@\"")
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address)
    assert (code, "is Python 3.6; wanted: 3.8 or newer; do: name one with --python" in stderr) == (4, True), stderr


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        pytest.param(("ssh", "sftp"), "ssh is not installed on this machine", id="no ssh"),
        pytest.param(("rsync", "sftp"), "neither rsync nor sftp can send the bundle", id="no rsync and no sftp"),
    ],
)
def test_a_desk_that_lacks_a_program_is_told(flying, make_bundle, slimdeploy, programs, says):
    for name in programs:
        (flying.folder / "desk_bin" / name).unlink()
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", flying.address)
    assert (code, flying.model()) == (4, b"old")
    assert says in stderr


@pytest.mark.parametrize(
    "text", ["drone", "ssh://", "ftp://drone", "ssh://-oProxyCommand=x", "ssh://a@b:0", "local:", "ssh://a b"]
)
def test_an_address_of_no_board_is_told(make_bundle, slimdeploy, text):
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", text)
    assert (code, "the address" in stderr) == (2, True), stderr


def test_what_is_no_bundle_is_not_sent(flying, slimdeploy, tmp_path):
    code, _, stderr = slimdeploy("ship", tmp_path, "--to", flying.address)
    assert (code, flying.model()) == (2, b"old")
    assert "no bundle manifest" in stderr


def test_a_host_that_is_not_there_is_told(make_board, make_bundle, slimdeploy):
    board = make_board()
    board.stop()
    code, _, stderr = slimdeploy("ship", make_bundle(b"new"), "--to", board.address)
    assert (code, "runs no ssh server at that port" in stderr) == (4, True), stderr

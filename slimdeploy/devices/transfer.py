"""Send a bundle's files so that a broken transfer goes on where it stopped: rsync, or sftp where one side lacks it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from slimdeploy.board.text import SHOWN
from slimdeploy.configs import ShipConfig
from slimdeploy.devices import ssh
from slimdeploy.devices.address import Address
from slimdeploy.devices.session import BoardSession
from slimdeploy.devices.streams import Tail
from slimdeploy.errors import DeviceError
from slimdeploy.outputs import scratch_folder

PING_S = 10.0  # the board gives up on a desk that is silent for much longer
POLL_S = 0.1
SAID_S = 5.0  # for the last words of a transfer that has ended
_SENT = re.compile(r"Total bytes sent: ([0-9][0-9,.]{0,30})")


def send(
    session: BoardSession, files: Mapping[str, Path], folder: str, received: Mapping[str, int], config: ShipConfig
) -> dict[str, object]:
    """Send files into a folder on the board, which has room for them and the folders that they lie in.

    Args:
        session: the board; it is asked from time to time whether it is still there.
        files: by their names in the folder.
        folder: on the board, absolute.
        received: how many bytes of each file are there already.
        config: time limits and the rate.

    Returns:
        `with`, the program that sent them, and `bytes`, how many went over the wire where it tells.

    Raises:
        DeviceError: the transfer broke, or neither rsync nor sftp is at hand.
    """
    address = session.address
    with scratch_folder() as temporary:
        if shutil.which("rsync") and session.ask("look")["rsync"]:
            name, command = "rsync", _rsync(address, files, folder, Path(temporary), config)
        else:
            name, command = "sftp", _sftp(address, files, folder, received, Path(temporary), config)
        code, told = _run(command, session)
    if code != 0:
        raise _failed(address, code, told)
    sent = _SENT.search(told)
    return {"with": name, "bytes": int(re.sub(r"\D", "", sent[1])) if sent else None}


def _rsync(address: Address, files: Mapping[str, Path], folder: str, temporary: Path, config: ShipConfig) -> list[str]:
    (source,) = {path.parents[name.count("/")] for name, path in files.items()}
    names = temporary / "names"
    names.write_text("".join(f"{name}\n" for name in files), encoding="utf-8")
    command = ["rsync", "--times", "--inplace", "--stats", "--protect-args", f"--files-from={names}"]
    command += [f"--timeout={config.stall_timeout_s:.0f}"]
    command += [f"--bwlimit={config.rate_kbps}"] if config.rate_kbps else []
    if not address.host:
        return [*command, "--no-whole-file", f"{source}/", f"{folder}/"]
    remote = f"[{address.host}]" if ":" in address.host else address.host
    user = f"{address.user}@" if address.user else ""
    port = ["-p", str(address.port)] if address.port else []
    shell = shlex.join([*ssh.ssh_command(config), *port])
    return [*command, "-e", shell, f"{source}/", f"{user}{remote}:{folder}/"]


def _sftp(
    address: Address,
    files: Mapping[str, Path],
    folder: str,
    received: Mapping[str, int],
    temporary: Path,
    config: ShipConfig,
) -> list[str]:
    program = shutil.which("sftp")
    if program is None or not address.host:
        raise DeviceError(
            "neither rsync nor sftp can send the bundle", wanted="one of them", do="install rsync on both sides"
        )
    batch = temporary / "batch"
    lines = []
    for name, path in files.items():
        here, size = received.get(name, 0), path.stat().st_size
        if here != size or here == 0:
            verb = "reput" if 0 < here < size else "put"
            lines.append(f'{verb} "{_quoted(path.as_posix())}" "{_quoted(f"{folder}/{name}")}"\n')
    batch.write_text("".join(lines), encoding="utf-8")
    start, *options = ssh.ssh_command(config)
    port = ["-P", str(address.port)] if address.port else []
    rate = ["-l", str(8 * config.rate_kbps)] if config.rate_kbps else []
    host = f"[{address.host}]" if ":" in address.host else address.host
    where = f"{address.user}@{host}" if address.user else host
    return [program, "-S", start, *options, *port, *rate, "-b", str(batch), where]


def _quoted(name: str) -> str:
    if any(character in name for character in "\r\n\0"):  # it would be a command of its own
        raise DeviceError(f"sftp cannot send {name[:SHOWN]!r}", wanted="a path without a line end", do="move it")
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _run(command: list[str], session: BoardSession) -> tuple[int, str]:
    """Run a transfer to its end and return its exit code and what it said; the board hears from the host meanwhile."""
    started = subprocess.Popen(
        command,
        bufsize=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert started.stdout is not None
    said = Tail(started.stdout)
    try:
        pinged = time.perf_counter()
        while started.poll() is None:
            time.sleep(POLL_S)
            if time.perf_counter() - pinged > PING_S:
                session.ask("ping")
                pinged = time.perf_counter()
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()
    return started.returncode, said.text(SAID_S)


def _failed(address: Address, code: int, told: str) -> DeviceError:
    if "No space left on device" in told:
        return DeviceError(
            f"the disk of {address.text} is full",
            wanted="room for the bundle and its engine",
            do="free some, or remove old releases with 'slimdeploy ship --prune', then run the same command again",
        )
    cut = code in (10, 12, 20, 30, 255) or code < 0  # of rsync: its stream broke, or nothing came for too long
    return ssh.explain(address, ssh.FAILED if cut else code, told, "the transfer")

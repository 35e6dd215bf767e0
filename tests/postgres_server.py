"""A real PostgreSQL server for a test, as Debian's package brings it; it can be stopped and started again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs, or None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Server:
    """A server on the loopback interface; it refuses to run as root, so that root hands it to the user `postgres`."""

    def __init__(self) -> None:
        programs = binaries()
        assert programs is not None
        self._programs = programs
        self._place = Path(tempfile.mkdtemp(prefix="slimdeploy-postgres-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self._place, "postgres", "postgres")
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", self._place / "data", "-U", "pilot", "-A", "trust", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://pilot:secret@127.0.0.1:{self.port}/postgres"

    def _run(self, program: str, *argv: object) -> None:
        command = [*self._as, str(self._programs / program), *map(str, argv)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._place} -c fsync=off"
        log = self._place / "log"
        self._run("pg_ctl", "-D", self._place / "data", "-l", log, "-o", options, "-w", "-t", "60", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._place / "data", "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

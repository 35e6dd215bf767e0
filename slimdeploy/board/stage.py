"""Turn what came over the wire into a release: verify it, build it, check it. The release that flies is not touched."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping

from slimdeploy.board import release, trust, whole
from slimdeploy.board.errors import SCHEMA, AgentError, ArtifactError, DeviceError
from slimdeploy.board.receive import AGENT

TIMEOUTS_S = {"build": 3600.0, "check": 600.0}  # TensorRT builds for many minutes on the small boards
SHOWN_LINES = 3  # of a failed agent's stderr


def receive(root: Path, bundle: Path) -> str:
    """Copy a bundle that somebody else brought to the board into staging, and return its hash.

    Raises:
        ArtifactError: it lacks a file, or one of them is a link.
    """
    raw = whole.read_raw(bundle)
    manifest, name = whole.parse_manifest(raw), hashlib.sha256(raw).hexdigest()
    if (release.releases(root) / name).is_dir():
        return name
    release.prepare(root)
    folder = release.staging(root) / name
    trust.remove(folder)
    target = trust.own_folder(folder) / trust.BUNDLE
    target.mkdir()
    (target / whole.MANIFEST).write_bytes(raw)
    extra = [whole.SIGNATURE] if os.path.lexists(str(bundle / whole.SIGNATURE)) else []
    for one in (*extra, *manifest["files"]):
        if (bundle / one).is_symlink() or not (bundle / one).is_file():
            raise ArtifactError(f"the bundle lacks {one}", wanted="the bundle as it was exported", do="copy it again")
        (target / one).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(bundle / one), str(target / one))
    return name


def stage(root: Path, name: str, timeouts_s: Mapping[str, float] = TIMEOUTS_S, runtime: str = "") -> dict[str, Any]:
    """Verify a bundle, build its engine and check it; what passes becomes a release, which nothing points at yet.

    Whatever lies in staging beside the bundle is removed first, so that what runs is what the signature covers.

    A bundle that is refused is removed. One whose build or check fails stays in staging without an engine, so that it
    need not be sent again.

    Args:
        root: the board's folder.
        name: the bundle's hash.
        timeouts_s: longest time for `build` and for `check`.
        runtime: what to build and check with; empty leaves the choice to the agent.

    Raises:
        AgentError: the bundle is not whole or not signed as it must be, or its build or check fails.
    """
    release.require_hash(name)
    admitted = (release.releases(root) / name).is_dir()
    folder = (release.releases if admitted else release.staging)(root) / name
    try:
        if not admitted:
            trust.keep_bundle_only(folder)
        signed_by = trust.accept(root, folder)
    except AgentError:
        if not admitted:
            trust.remove(folder)
        raise
    try:
        options = ["--runtime", runtime] if runtime else []
        built = ask_agent(folder, "build", timeouts_s["build"], *options)
        checked = ask_agent(folder, "check", timeouts_s["check"], *options)
    except BaseException:
        if not admitted:
            trust.remove(folder / trust.ENGINE)
        raise
    if not admitted:
        release.admit(root, name)
    return {"schema": SCHEMA, "release": name, "signed_by": signed_by, "build": built, "check": checked}


def ask_agent(folder: Path, verb: str, timeout_s: float, *options: str) -> dict[str, Any]:
    """Run a verb of the agent that lies in a release, and return what it says.

    Raises:
        DeviceError: it failed, or did not end in time; then it and all that it started are killed.
    """
    bundle, engine = folder / "bundle", folder / "engine"
    engine.mkdir(exist_ok=True)
    command = [sys.executable, str(bundle / AGENT), verb, "--bundle", str(bundle), "--cache", str(engine), "--json"]
    with subprocess.Popen(
        [*command, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        try:
            stdout, stderr = started.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"{verb} did not end within {timeout_s:g} s",
                do=f"look at the board, or allow more with --{verb}-timeout",
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # whatever it started goes, too
    return _answer(verb, started.returncode, stdout, stderr)


def _answer(verb: str, code: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    lines = stdout.decode(errors="replace").strip().split("\n")
    answer: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(lines[-1])
    if code == 0 and isinstance(answer, dict):
        return answer
    if isinstance(answer, dict) and "wrong" in answer:
        wrong, wanted, do = (str(answer.get(key, "")) for key in ("wrong", "wanted", "do"))
        raise DeviceError(f"{verb} failed: {wrong}", wanted=wanted, do=do)
    said = [line.strip() for line in stderr.decode(errors="replace").split("\n") if line.strip()]
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise DeviceError(f"{verb} failed with {ending}: {' | '.join(said[-SHOWN_LINES:]) or 'it said nothing'}")

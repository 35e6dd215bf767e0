"""Turn what came over the wire into a release: verify it, build it, check it. The release that flies is not touched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Mapping

from slimdeploy.board import release, whole
from slimdeploy.board.errors import SCHEMA, AgentError, ArtifactError, DeviceError

AGENT = "agent.pyz"
SIGNERS = "allowed_signers"
SYSTEM_SIGNERS = Path("/etc/slimdeploy") / SIGNERS
TIMEOUTS_S = {"build": 3600.0, "check": 600.0}  # TensorRT builds for many minutes on the small boards
SHOWN_LINES = 3  # of a failed agent's stderr


def signers_file(root: Path) -> Path | None:
    """Return the list of those who may sign for this board, or None where anybody may."""
    return next((path for path in (root / SIGNERS, SYSTEM_SIGNERS) if path.exists()), None)


def receive(root: Path, bundle: Path) -> str:
    """Copy a bundle that somebody else brought to the board into staging, and return its hash."""
    manifest = whole.read_manifest(bundle)
    name = whole.bundle_hash(bundle)
    if (release.releases(root) / name).is_dir():
        return name
    target = release.staging(root) / name / "bundle"
    shutil.rmtree(str(target), ignore_errors=True)
    extra = [whole.SIGNATURE] if (bundle / whole.SIGNATURE).is_file() else []
    for one in (whole.MANIFEST, *extra, *manifest["files"]):
        if not (bundle / one).is_file():
            raise ArtifactError(f"the bundle lacks {one}", wanted="the bundle as it was exported", do="copy it again")
        (target / one).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(bundle / one), str(target / one))
    return name


def stage(root: Path, name: str, timeouts_s: Mapping[str, float] = TIMEOUTS_S) -> dict[str, Any]:
    """Verify a bundle, build its engine and check it; what passes becomes a release, which nothing points at yet.

    A bundle that is refused is removed. One whose build or check fails stays in staging without an engine, so that it
    need not be sent again.

    Args:
        root: the board's folder.
        name: the bundle's hash.
        timeouts_s: longest time for `build` and for `check`.

    Raises:
        AgentError: the bundle is not whole or not signed as it must be, or its build or check fails.
    """
    release.require_hash(name)
    admitted = (release.releases(root) / name).is_dir()
    folder = (release.releases if admitted else release.staging)(root) / name
    try:
        signed_by = _accept(root, folder)
    except AgentError:
        if not admitted:
            shutil.rmtree(str(folder), ignore_errors=True)
        raise
    try:
        built = ask_agent(folder, "build", timeouts_s["build"])
        checked = ask_agent(folder, "check", timeouts_s["check"])
    except BaseException:
        if not admitted:
            shutil.rmtree(str(folder / "engine"), ignore_errors=True)
        raise
    if not admitted:
        release.admit(root, name)
    return {"schema": SCHEMA, "release": name, "signed_by": signed_by, "build": built, "check": checked}


def _accept(root: Path, folder: Path) -> str | None:
    """Return who signed a bundle, or None where the board asks for no signature; raise unless it is whole."""
    bundle = folder / "bundle"
    manifest = whole.read_manifest(bundle)
    if whole.bundle_hash(bundle) != folder.name:
        raise ArtifactError(f"the bundle holds an altered {whole.MANIFEST}", do="ship it again")
    signers = signers_file(root)
    signed_by = None if signers is None else whole.check_signature(bundle, signers)
    whole.check_files(bundle, manifest)  # after the signature, which says that the hashes are to be trusted
    if AGENT not in manifest["files"]:
        raise ArtifactError("the bundle has no agent", wanted=f"one with {AGENT}", do="export the model again")
    return signed_by


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
    lines = stdout.decode(errors="replace").strip().splitlines()
    answer: Any = None
    with contextlib.suppress(ValueError):
        answer = json.loads(lines[-1]) if lines else None
    if code == 0 and isinstance(answer, dict):
        return answer
    if isinstance(answer, dict) and "wrong" in answer:
        raise DeviceError(f"{verb} failed: {answer['wrong']}", wanted=answer.get("wanted", ""), do=answer.get("do", ""))
    said = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise DeviceError(f"{verb} failed with {ending}: {' | '.join(said[-SHOWN_LINES:]) or 'it said nothing'}")

"""Complete a bundle's folder, and check one: every file there, unaltered, and nothing else."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from slimdeploy.board import whole
from slimdeploy.board.errors import ArtifactError as Refused
from slimdeploy.bundle.agent import AGENT, write_agent
from slimdeploy.bundle.ansible import write_role
from slimdeploy.bundle.labels import labels_text
from slimdeploy.bundle.manifest import LICENCE_NOTE, MANIFEST, Contents, build_manifest, read_manifest
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.lineage import RUN_FILE, SCHEMA, read_run, sha256_file, write_json

LABELS = "labels.txt"
LICENCE = "LICENSE"
LINEAGE = "lineage.json"


def pack(folder: Path, contents: Contents) -> dict[str, Any]:
    """Put class names, licence, lineage, the board's agent, the Ansible role and the manifest beside the graphs.

    Args:
        folder: where the graphs and whatever else belongs to the bundle lie already.
        contents: what the bundle is made of.

    Returns:
        The manifest.
    """
    _write_text(folder / LABELS, labels_text(contents.artifact.spec.classes))
    _write_text(folder / LICENCE, licence_text())
    if contents.lineage is not None:
        write_json(folder / LINEAGE, {"schema": SCHEMA, **contents.lineage})
    write_agent(folder / AGENT)
    write_role(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = build_manifest(contents, files)
    write_json(folder / MANIFEST, manifest)
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Hash every file of a bundle again and compare it with what was written down.

    The manifest cannot hold its own hash; the record of the export, which stays at the desk, holds it.

    Args:
        folder: the bundle.

    Returns:
        Its manifest.

    Raises:
        ArtifactError: a file is missing, altered or not part of the bundle, or manifest.json or run.json is damaged.
    """
    manifest = read_manifest(folder)
    try:
        whole.check_files(folder, manifest, ignored=(MANIFEST, whole.SIGNATURE, RUN_FILE))
    except Refused as error:
        wrong = error.wrong.replace("the bundle", f"the bundle {folder}", 1)
        raise ArtifactError(wrong, wanted=error.wanted, do=error.do) from error
    if (folder / RUN_FILE).exists() and _recorded_hash(folder) != sha256_file(folder / MANIFEST):
        raise _refused(folder, f"holds an altered {MANIFEST}")
    return manifest


def _recorded_hash(folder: Path) -> str:
    try:
        outputs = read_run(folder).get("outputs")
    except UsageError as error:
        raise ArtifactError(error.wrong, wanted=error.wanted, do="export the model again") from error
    if not isinstance(outputs, dict) or MANIFEST not in outputs:
        raise _refused(folder, f"has a {RUN_FILE} without the hash of {MANIFEST}")
    return str(outputs[MANIFEST])


def _refused(folder: Path, what: str) -> ArtifactError:
    return ArtifactError(f"the bundle {folder} {what}", wanted="the bundle as it was exported", do="copy it again")


def licence_text() -> str:
    """Return the text of slimdeploy's licence, or a notice where the installation holds none."""
    for path in _licence_files():
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return f"{LICENCE_NOTE}\nText: https://www.gnu.org/licenses/agpl-3.0.txt\n"


def _licence_files() -> list[Path]:
    checkout = Path(__file__).parents[2]
    found = [checkout / LICENCE] if (checkout / "pyproject.toml").is_file() else []
    try:
        files = importlib.metadata.files("slimdeploy") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    return found + [Path(str(one.locate())) for one in files if one.name == LICENCE]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

"""Complete a bundle's folder, and check one: every file there, unaltered, and nothing else."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from slimdeploy.bundle.agent import AGENT, write_agent
from slimdeploy.bundle.manifest import LICENCE_NOTE, MANIFEST, Contents, build_manifest, read_manifest
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.lineage import RUN_FILE, read_run, sha256_file, write_json

LABELS = "labels.txt"
LICENCE = "LICENSE"


def pack(folder: Path, contents: Contents) -> dict[str, Any]:
    """Put class names, licence, the board's agent and the manifest beside a model.

    Args:
        folder: where the model's file and whatever else belongs to the bundle lie already.
        contents: what the bundle is made of.

    Returns:
        The manifest.
    """
    _write_text(folder / LABELS, "".join(f"{name}\n" for name in contents.artifact.spec.classes))
    _write_text(folder / LICENCE, licence_text())
    write_agent(folder / AGENT)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = build_manifest(contents, files)
    write_json(folder / MANIFEST, manifest)
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Hash every file of a bundle again and compare it with what was written down.

    Args:
        folder: the bundle.

    Returns:
        Its manifest.

    Raises:
        ArtifactError: a file is missing, altered or not part of the bundle, or manifest.json or run.json is damaged.
    """
    manifest = read_manifest(folder)
    expected = {name: str(file["sha256"]) for name, file in manifest["files"].items()}
    expected[MANIFEST] = _hash_of_manifest(folder)
    present = {path.name for path in folder.iterdir()}
    if missing := sorted(set(expected) - present):
        raise _refused(folder, f"lacks {missing[0]}")
    if extra := sorted(present - set(expected) - {RUN_FILE}):
        raise _refused(folder, f"holds {extra[0]}, which is not part of it")
    for name, sha256 in expected.items():
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise _refused(folder, f"holds {name}, which is no ordinary file")
        if sha256_file(folder / name) != sha256:
            raise _refused(folder, f"holds an altered {name}")
    return manifest


def _hash_of_manifest(folder: Path) -> str:
    """The manifest cannot hold its own hash; the record of the export holds it."""
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

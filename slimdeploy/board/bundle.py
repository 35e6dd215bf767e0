"""Read the bundle that the agent travels in: which model, how it is fed, what it must find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping

from slimdeploy.board import whole
from slimdeploy.board.errors import ArtifactError, UsageError
from slimdeploy.board.names import wrong_names

LONGEST_SIDE = 1 << 16  # of an input, in pixels or images


@dataclass(frozen=True)
class Bundle:
    """A bundle's folder and what its manifest says.

    Attributes:
        folder: where it lies.
        manifest: what manifest.json holds.
        graph: the graph that was named or, where none was, is recommended; "" leaves the choice to what runs it.
    """

    folder: Path
    manifest: Mapping[str, Any]
    graph: str = ""

    @property
    def imgsz(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        height, width = self.manifest["input"]["shape"][2:]
        return int(height), int(width)

    @property
    def batch(self) -> int:
        """Images a call."""
        return int(self.manifest["input"]["shape"][0])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return tuple(self.manifest["model"]["classes"])

    @property
    def precision(self) -> str:
        """Precision of what is run: fp32, fp16 or int8."""
        known = {one["file"]: one["precision"] for one in self.manifest.get("graphs", ())}
        return str(known.get(self.graph, self.manifest["model"]["precision"]))

    @property
    def model(self) -> str:
        """File of the graph that is run, unless TensorRT has a better form of it."""
        return self.graph or str(self.manifest["model"]["file"])

    def file(self, name: str) -> Path:
        """Return the path of a file of the bundle after comparing it with its hash.

        Raises:
            ArtifactError: the manifest does not name it, or it is missing, a link or altered.
        """
        known = self.manifest["files"].get(name)
        if known is None:
            raise ArtifactError(f"the bundle {self.folder} does not name {name}", do="export the model again")
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"the bundle {self.folder} lacks {name}", do="copy the bundle again")
        if whole.sha256_file(path) != known["sha256"]:
            raise ArtifactError(
                f"the bundle {self.folder} holds an altered {name}", wanted="it as exported", do="copy it again"
            )
        return path


def read_bundle(folder: Path, graph: str = "") -> Bundle:
    """Return a bundle whose manifest names what the agent needs; its files are looked at when they are used.

    Args:
        folder: where it lies.
        graph: the graph to run; "" takes the one that the manifest recommends, where it recommends one.

    Raises:
        ArtifactError: there is none, it is damaged, or a newer slimdeploy wrote it.
        UsageError: it has no such graph.
    """
    manifest = whole.read_manifest(folder)
    _require(manifest, folder / whole.MANIFEST)
    files = [manifest["model"]["file"], *(one["file"] for one in manifest.get("graphs", ()))]
    if graph and graph not in files:
        raise UsageError(f"the bundle has no graph {graph!r}", wanted=f"one of {', '.join(dict.fromkeys(files))}")
    recommended = manifest.get("recommendation", {}).get("file", "")
    return Bundle(folder=folder, manifest=manifest, graph=graph or (recommended if recommended in files else ""))


def _require(manifest: Mapping[str, Any], path: Path) -> None:
    """Raise ArtifactError unless a manifest has the parts that are used here, each of its type."""
    wrong = next((name for name, holds in _PARTS.items() if not holds(manifest.get(name, _OPTIONAL.get(name)))), "")
    if wrong:
        raise ArtifactError(
            f"{path} lacks what feeds the model: {wrong} is missing or damaged",
            wanted="a whole manifest",
            do="export it again",
        )
    said = wrong_names(manifest["model"]["classes"])
    if said:
        raise ArtifactError(f"{path}: {said}", wanted="different class names, each in one line", do="export it again")


def _is_input(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("name", ""), str):
        return False
    shape = value.get("shape")
    return isinstance(shape, list) and len(shape) == 4 and all(map(_is_side, shape))


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LONGEST_SIDE


def _is_model(value: Any) -> bool:
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("file", "precision", "task")):
        return False
    classes = value.get("classes")
    return isinstance(classes, list) and all(isinstance(name, str) for name in classes)


def _are_graphs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get("file"), str) and isinstance(one.get("precision"), str)
        for one in value
    )


def _is_recommendation(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("file", ""), str)


def _are_limits(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and one > 0 for one in value.values()
    )


_OPTIONAL: Mapping[str, Any] = {"graphs": [], "recommendation": {}, "target": {}, "limits": {}}  # what absence means


_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "input": _is_input,
    "model": _is_model,
    "graphs": _are_graphs,
    "recommendation": _is_recommendation,
    "target": lambda value: isinstance(value, dict),
    "limits": _are_limits,
}

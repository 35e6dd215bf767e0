"""Read the bundle that the agent travels in: which model, how it is fed, what it must find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from slimdeploy.board import whole
from slimdeploy.board.errors import ArtifactError, UsageError
from slimdeploy.board.names import wrong_names


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
    """Raise ArtifactError unless a manifest has the parts that are used here."""
    try:
        shape, model = manifest["input"]["shape"], manifest["model"]
        fits = (
            len(shape) == 4
            and all(isinstance(side, int) and 0 < side <= _LARGEST for side in shape)
            and all(isinstance(model[name], str) for name in ("file", "precision", "task"))
            and isinstance(model["classes"], list)
            and isinstance(manifest["files"], dict)
            and _has_graphs(manifest)
        )
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise ArtifactError(f"{path} lacks what feeds the model", wanted="a whole manifest", do="export it again")
    wrong = wrong_names(model["classes"])
    if wrong:
        raise ArtifactError(f"{path}: {wrong}", wanted="different class names, each in one line", do="export it again")


def _has_graphs(manifest: Mapping[str, Any]) -> bool:
    """Return whether what a manifest says of graphs, a recommendation and its target has the form that is read here."""
    graphs, recommended, target = (manifest.get(key, kind()) for key, kind in _FORMS)
    return (
        all(isinstance(part, kind) for part, (_, kind) in zip((graphs, recommended, target), _FORMS))
        and all(isinstance(one, dict) and {str} == {type(one[key]) for key in ("file", "precision")} for one in graphs)
        and isinstance(recommended.get("file", ""), str)
        and all(isinstance(target.get(key, ""), str) for key in ("name", "title", "kind", "runtime"))
    )


_FORMS: tuple[tuple[str, type[Any]], ...] = (("graphs", list), ("recommendation", dict), ("target", dict))
_LARGEST = 1 << 16  # of a side of the input

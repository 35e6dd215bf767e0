"""A bundle whose manifest is damaged in any part that the agent uses is refused with the name of that part."""

from __future__ import annotations

import json

import pytest
from small_bundle import write_small_bundle

from slimdeploy.board import whole
from slimdeploy.board.bundle import read_bundle
from slimdeploy.board.errors import ArtifactError

ODD = (5, "x", [], {}, [{}], [5], True, {"file": 5}, {"shape": [1, 3, 0, 64]}, {"p90_ms": "x"}, 10**400, None)


@pytest.fixture
def manifest(tmp_path):
    write_small_bundle(tmp_path / "bundle")
    return json.loads((tmp_path / "bundle" / "manifest.json").read_text(encoding="utf-8"))


def read(tmp_path, manifest, graph=""):
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    bundle = read_bundle(tmp_path / "bundle", graph)
    return bundle.imgsz, bundle.batch, bundle.classes, bundle.precision, bundle.model


@pytest.mark.parametrize("part", ["input", "model", "graphs", "recommendation", "target", "limits", "files", "schema"])
def test_a_part_of_another_type_is_refused_or_not_used(tmp_path, manifest, part):
    refused = 0
    for odd in ODD:
        try:
            read(tmp_path, {**manifest, part: odd})
        except ArtifactError:
            refused += 1
    assert refused >= 5


@pytest.mark.parametrize("side", [0, -1, 1.5, "640", True, None, 10**9, 10**400])
def test_a_side_that_no_input_has_is_refused(tmp_path, manifest, side):
    manifest["input"]["shape"][2] = side
    with pytest.raises(ArtifactError, match="input is missing or damaged"):
        read(tmp_path, manifest)


@pytest.mark.parametrize("names", [5, ["car", 5], None, {"0": "car"}])
def test_class_names_that_are_none_are_refused(tmp_path, manifest, names):
    manifest["model"]["classes"] = names
    with pytest.raises(ArtifactError, match="model is missing or damaged"):
        read(tmp_path, manifest)


@pytest.mark.parametrize("names", [{"a": 0, "a/b": 0}, {"n" * 300: 0}, {"a b": 0}, {"": 0}])
def test_names_that_no_folder_takes_are_refused(tmp_path, manifest, names):
    files = {name: {"size_bytes": 1, "sha256": "a" * 64} for name in names}
    with pytest.raises(ArtifactError, match="names the file"):
        whole.parse_manifest(json.dumps({**manifest, "files": files}).encode())


def test_a_manifest_that_is_a_pipe_is_refused_and_does_not_hang(tmp_path):
    import os

    (tmp_path / "bundle").mkdir()
    os.mkfifo(tmp_path / "bundle" / "manifest.json")
    with pytest.raises(ArtifactError, match="is no bundle"):
        whole.read_manifest(tmp_path / "bundle")

"""A bundle says how to feed its model, follows its schema, and is refused once a file in it changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from small_bundle import CHECK

from slimdeploy.bundle import verify
from slimdeploy.bundle.manifest import Contents, Graph, build_manifest, published_schema, read_manifest, validate
from slimdeploy.bundle.pack import licence_text, pack
from slimdeploy.cli.bundle import as_text, summary
from slimdeploy.configs import ExportConfig
from slimdeploy.errors import ArtifactError
from slimdeploy.lineage import stage_run
from slimdeploy.records import Artifact, Checkpoint, ModelSpec, Target

KEYWORDS = {
    "$schema", "title", "description", "type", "const", "enum", "pattern", "minimum", "properties", "required",
    "additionalProperties", "propertyNames", "items", "minItems", "maxItems",
}  # fmt: skip


@pytest.fixture
def contents() -> Contents:
    spec = ModelSpec(task="detect", classes=("car", "van"), imgsz=(384, 640), outputs={"output0": (1, 6, 5040)})
    return Contents(
        artifact=Artifact(
            path="elsewhere/model.fp16.onnx", format="onnx", precision="fp16", sha256="a" * 64, spec=spec,
            parameters=100, macs=1000, size_bytes=5,
        ),
        checkpoint=Checkpoint(
            path="runs/tuned.pt", sha256="b" * 64, task="detect", classes=spec.classes, stride=32, parameters=110,
            size_bytes=9, pruned=True,
        ),
        target=Target(
            name="board", title="A board", kind="jetson", runtime="tensorrt", precisions=("fp32", "fp16"),
            alignment={"fp32": 8, "fp16": 8}, opset=13, tensorrt=("8.5.2",),
        ),
        check=CHECK,
        graphs=(
            Graph(
                file="model.fp16.onnx", precision="fp16", body="float16", opset=13, ir_version=7, box_shift_px=0.2,
                score_change=0.001, float_nodes=({"node": "softmax", "why": "decoding"},),
            ),
        ),
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path, contents) -> Path:
    out = tmp_path / "bundle"
    with stage_run("export", config=ExportConfig(), inputs={}, out=out) as run:
        (run.folder / "model.fp16.onnx").write_bytes(b"model")
        pack(run.folder, contents)
    return out


def test_a_manifest_says_how_to_feed_the_model_and_read_its_output(bundle):
    manifest = read_manifest(bundle)
    assert manifest["input"]["shape"] == [1, 3, 384, 640]
    assert (manifest["input"]["colour"], manifest["input"]["letterbox"]["padding"]) == ("RGB", 114)
    assert manifest["output"]["shape"] == [1, 6, 48 * 80 + 24 * 40 + 12 * 20]
    assert (manifest["model"]["name"], manifest["model"]["file"]) == ("tuned", "model.fp16.onnx")
    assert manifest["model"]["classes"] == ["car", "van"]
    assert manifest["model"]["pruned"] is True


def test_a_manifest_says_whether_the_latency_that_was_planned_was_measured(contents):
    latency = {
        "target": "orin-nx-16gb", "precision": "fp16", "source": "a model", "estimated": True, "asked_ms": 2.0,
        "planned_ms": (4.0, 2.0), "measured_ms": None, "speedup": 2.0,
    }  # fmt: skip
    planned = dataclasses.replace(
        contents, checkpoint=dataclasses.replace(contents.checkpoint, planned_latency=latency)
    )
    told = build_manifest(planned, {})["weights"]["planned_latency"]
    assert told["estimated"] is True
    assert told["planned_ms"] == [4.0, 2.0]
    assert "measured_ms" not in told
    assert "planned_latency" not in build_manifest(contents, {})["weights"]


@pytest.mark.parametrize(
    ("task", "outputs", "kpt_shape", "says"),
    [
        pytest.param(
            "segment", {"output0": (1, 38, 84), "output1": (1, 32, 16, 16)}, None, "coefficient", id="segment"
        ),
        pytest.param("pose", {"output0": (1, 57, 84)}, (17, 3), "17 keypoints x, y, visibility", id="pose"),
        pytest.param("obb", {"output0": (1, 7, 84)}, None, "in radians", id="obb"),
    ],
)
def test_a_manifest_says_what_each_task_adds_to_its_boxes(contents, task, outputs, kpt_shape, says):
    made = manifest_for(contents, task, outputs, kpt_shape)
    assert made["output"]["shape"] == list(outputs["output0"])
    assert says in made["output"]["more"]
    assert ("prototypes" in made) == ("output1" in outputs)


def test_the_manifest_of_a_classifier_has_no_boxes(contents):
    made = manifest_for(contents, "classify", {"output0": (1, 2)}, None)
    assert made["output"]["layout"] == "batch, classes"
    assert not {"boxes", "more"} & made["output"].keys()


def manifest_for(contents, task, outputs, kpt_shape):
    spec = dataclasses.replace(contents.artifact.spec, task=task, outputs=outputs)
    artifact = dataclasses.replace(contents.artifact, spec=spec)
    known = dataclasses.replace(contents.checkpoint, task=task, kpt_shape=kpt_shape)
    return build_manifest(dataclasses.replace(contents, artifact=artifact, checkpoint=known), {})


def test_a_manifest_says_that_no_board_and_no_parser_has_seen_the_graph(bundle):
    board = read_manifest(bundle)["board"]
    assert (board["run"], board["nvidia_parser"]) == ("not run", "not run")
    assert board["build"].endswith("--onnx=model.fp16.onnx --saveEngine=model.engine --fp16")


def test_a_manifest_lists_every_graph_with_the_command_that_builds_it(bundle):
    (graph,) = read_manifest(bundle)["graphs"]
    assert (graph["file"], graph["precision"], graph["body"], graph["opset"]) == (
        "model.fp16.onnx", "fp16", "float16", 13,
    )  # fmt: skip
    assert graph["build"] == read_manifest(bundle)["board"]["build"]


def test_labels_are_the_classes_in_label_order(bundle):
    assert (bundle / "labels.txt").read_text(encoding="utf-8") == "car\nvan\n"


def test_a_bundle_carries_the_licence_of_the_code_and_says_whose_the_weights_are(bundle):
    assert (bundle / "LICENSE").read_text(encoding="utf-8") == licence_text()
    text = licence_text()
    assert ("GNU AFFERO GENERAL PUBLIC LICENSE" in text and "END OF TERMS AND CONDITIONS" in text) or "agpl-3.0" in text
    assert "their owner's" in read_manifest(bundle)["licence"]


def test_a_whole_bundle_is_accepted(bundle):
    assert verify(bundle) == read_manifest(bundle)


@pytest.mark.parametrize("name", ["model.fp16.onnx", "labels.txt", "LICENSE", "manifest.json"])
def test_an_altered_file_is_refused_by_name(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match=f"an altered {name}"):
        verify(bundle)


@pytest.mark.parametrize("name", ["model.fp16.onnx", "labels.txt", "manifest.json"])
def test_a_missing_file_is_refused_by_name(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        verify(bundle)


def test_a_bundle_without_the_record_of_its_export_is_whole(bundle):
    (bundle / "run.json").unlink()
    assert verify(bundle) == read_manifest(bundle)


def test_a_link_in_place_of_a_file_is_refused(bundle, tmp_path):
    (bundle / "labels.txt").rename(tmp_path / "labels.txt")
    (bundle / "labels.txt").symlink_to(tmp_path / "labels.txt")
    with pytest.raises(ArtifactError, match="no ordinary file"):
        verify(bundle)


def test_a_file_that_is_not_part_of_the_bundle_is_refused(bundle):
    (bundle / "model.engine").write_bytes(b"native code")
    with pytest.raises(ArtifactError, match=r"holds model\.engine, which is not part of it"):
        verify(bundle)


def test_a_folder_in_place_of_a_file_is_refused(bundle):
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").mkdir()
    with pytest.raises(ArtifactError, match="no ordinary file"):
        verify(bundle)


def test_a_run_record_without_the_manifests_hash_is_refused(bundle):
    record = json.loads((bundle / "run.json").read_text(encoding="utf-8"))
    del record["outputs"]["manifest.json"]
    (bundle / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"without the hash of manifest\.json"):
        verify(bundle)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "no bundle manifest", id="none there"),
        pytest.param(lambda path: path.write_text("{", encoding="utf-8"), "is not a bundle manifest", id="truncated"),
        pytest.param(lambda path: path.write_text('{"schema": 99}', encoding="utf-8"), "schema 99", id="newer"),
        pytest.param(lambda path: path.write_text('{"schema": 1}', encoding="utf-8"), "model is missing", id="empty"),
    ],
)
def test_a_damaged_manifest_is_refused_with_the_reason(tmp_path, make, says):
    make(tmp_path / "manifest.json")
    with pytest.raises(ArtifactError, match=says):
        read_manifest(tmp_path)


def test_a_folder_that_is_not_there_is_no_bundle(tmp_path):
    with pytest.raises(ArtifactError, match="no bundle at"):
        read_manifest(tmp_path / "missing")


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        pytest.param("model", "precision", "fp8", r"model\.precision is 'fp8'", id="unknown precision"),
        pytest.param("model", "opset", "13", r"model\.opset is '13'", id="number as text"),
        pytest.param("model", "file", "../model.onnx", r"model\.file", id="file outside the folder"),
        pytest.param("model", "classes", [], r"model\.classes has 0 entries", id="no classes"),
        pytest.param("input", "shape", [1, 3, 640], r"input\.shape has 3 entries", id="shape too short"),
        pytest.param("check", "images", 0, r"check\.images is 0", id="checked on nothing"),
        pytest.param("board", "fps", 99, r"board\.fps is not known", id="unknown key"),
        pytest.param("files", "../x", {}, r"files\.\.\./x has a name", id="hash of a file outside"),
        pytest.param("files", "x", {"sha256": "0"}, r"files\.x\.size_bytes is missing", id="file without size"),
    ],
)
def test_a_manifest_that_departs_from_the_schema_is_refused_where_it_does(bundle, section, key, value, says):
    manifest = read_manifest(bundle)
    manifest[section][key] = value
    with pytest.raises(ArtifactError, match=says):
        validate(manifest, "manifest.json")


def test_the_published_schema_uses_no_keyword_that_the_check_does_not_know():
    def keywords(schema):
        yield from schema
        for key in ("properties",):
            for one in schema.get(key, {}).values():
                yield from keywords(one)
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                yield from keywords(schema[key])

    assert set(keywords(published_schema())) <= KEYWORDS


def test_limits_are_shown_with_their_units(bundle):
    manifest = read_manifest(bundle)
    assert "limits" not in as_text(summary(bundle, manifest), manifest)
    limited = {**manifest, "limits": {"p90_ms": 20.0, "power_mw": 15000.0}}
    assert "limits:  p90 20 ms, power 15000 mW; the board refuses" in as_text(summary(bundle, limited), limited)

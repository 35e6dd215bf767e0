"""The golden sample through the whole agent: a good engine passes, and every way of being wrong is told."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from agent_process import run_agent
from onnx import numpy_helper

from slimdeploy.board.boxes import Detections
from slimdeploy.board.golden import Golden, compare


def rewritten(bundle, name, change):
    """Change one JSON file of a bundle, and its hash in the manifest."""
    path = bundle / name
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    if name != "manifest.json":
        rehashed(bundle, name)


def rehashed(bundle, name):
    from slimdeploy.lineage import sha256_file

    known = {"sha256": sha256_file(bundle / name), "size_bytes": (bundle / name).stat().st_size}
    rewritten(bundle, "manifest.json", lambda m: m["files"].update({name: known}))


def test_a_whole_bundle_passes_its_own_check(bundle):
    ended = run_agent(bundle, "check")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.told["schema"], ended.told["expected"], ended.told["missing"]) == (1, 2, 0)
    assert ended.told["runtime"].startswith("onnxruntime ")


def test_an_engine_that_finds_other_boxes_ends_with_exit_code_5(bundle):
    model = onnx.load(bundle / "model.fp32.onnx")
    boxes = numpy_helper.to_array(model.graph.initializer[0]) + np.float32(3)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(boxes, "boxes"))
    onnx.save(model, bundle / "model.fp32.onnx")
    rehashed(bundle, "model.fp32.onnx")
    ended = run_agent(bundle, "check")
    assert (ended.code, ended.told["error"]) == (5, "GateError")
    assert "of 2 boxes 2 are missing" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["model.fp32.onnx", "golden/input.npy", "golden/expected.json"])
def test_an_altered_file_is_refused(bundle, name):
    with (bundle / name).open("ab") as stream:
        stream.write(b" ")
    ended = run_agent(bundle, "check")
    assert (ended.code, ended.told["error"]) == (2, "ArtifactError")
    assert f"holds an altered {name}" in ended.err


@pytest.mark.parametrize("name", ["model.fp32.onnx", "golden/input.npy", "manifest.json"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    ended = run_agent(bundle, "check")
    assert ended.code == 2
    assert ("has no manifest.json" if name == "manifest.json" else f"lacks {name}") in ended.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda m: m.update(schema=2), "has schema 2; wanted: schema 1 or older", id="newer"),
        pytest.param(lambda m: m.pop("input"), "lacks what feeds the model", id="without input"),
        pytest.param(lambda m: m["files"].pop("golden/input.npy"), "does not name golden/input.npy", id="no golden"),
        pytest.param(lambda m: m["files"].update({"../x": {}}), "names the file '../x'", id="outside"),
    ],
)
def test_a_manifest_that_is_wrong_is_told_in_one_line(bundle, change, says):
    rewritten(bundle, "manifest.json", change)
    ended = run_agent(bundle, "check")
    assert ended.code == 2
    assert says in ended.err
    assert len(ended.err.splitlines()) == 1


def test_an_unknown_runtime_is_refused(bundle):
    ended = run_agent(bundle, "check", "--runtime", "caffe")
    assert (ended.code, ended.told["error"]) == (2, "UsageError")


@pytest.fixture
def two_graphs(bundle):
    """A bundle with a second graph, whose boxes lie beside those of the first and are 3 px larger."""
    model = onnx.load(bundle / "model.fp32.onnx")
    boxes = numpy_helper.to_array(model.graph.initializer[0]) + np.float32(3)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(boxes, "boxes"))
    onnx.save(model, bundle / "model.other.onnx")
    rehashed(bundle, "model.other.onnx")
    golden = json.loads((bundle / "golden" / "expected.json").read_text(encoding="utf-8"))
    moved = [[side + by for side, by in zip(box, (1.5, 1.5, 4.5, 4.5), strict=True)] for box in golden["xyxy"]]
    rewritten(
        bundle, "golden/expected.json", lambda g: g.update(by_graph={"model.other.onnx": {**golden, "xyxy": moved}})
    )
    first = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["graphs"][0]
    others = [first, {**first, "file": "model.other.onnx", "precision": "fp16"}]
    told = {"measured": True, "file": "model.other.onnx", "why": "quicker"}
    rewritten(bundle, "manifest.json", lambda m: m.update(graphs=others, recommendation=told))
    return bundle


def test_the_recommended_graph_is_run_and_held_to_what_it_found_itself(two_graphs):
    ended = run_agent(two_graphs, "check")
    assert (ended.code, ended.err) == (0, "")
    assert (ended.told["graph"], ended.told["missing"]) == ("model.other.onnx", 0)
    timed = run_agent(two_graphs, "bench", "--samples", "5", "--rounds", "1").told
    assert timed["graph"] == "model.other.onnx"


def test_a_graph_that_is_named_is_run_in_place_of_the_recommended_one(two_graphs):
    ended = run_agent(two_graphs, "check", "--graph", "model.fp32.onnx")
    assert (ended.code, ended.told["graph"]) == (0, "model.fp32.onnx"), ended.err
    ended = run_agent(two_graphs, "run", str(two_graphs), "--graph", "model.int4.onnx")
    assert (ended.code, ended.told["wanted"]) == (2, "one of model.fp32.onnx, model.other.onnx")


def test_limits_of_the_manifest_are_held(bundle):
    rewritten(bundle, "manifest.json", lambda m: m.update(limits={"p90_ms": 10_000.0}))
    assert 0 < run_agent(bundle, "check").told["p90_ms"] < 10_000
    rewritten(bundle, "manifest.json", lambda m: m.update(limits={"p90_ms": 1e-6}))
    ended = run_agent(bundle, "check")
    assert ended.code == 5
    assert "p90_ms is" in ended.err


def test_a_limit_of_power_fails_where_the_board_does_not_tell_its_power(bundle, tmp_path):
    rewritten(bundle, "manifest.json", lambda m: m.update(limits={"power_mw": 5000}))
    ended = run_agent(bundle, "check", root=tmp_path)  # a root without sensors
    assert ended.code == 5
    assert "does not tell power_mw" in ended.err


def a_golden(scores=(0.9, 0.3)):
    boxes = Detections(
        xyxy=np.array([[0, 0, 10, 10], [40, 40, 60, 60]], dtype=np.float32),
        scores=np.array(scores, dtype=np.float32),
        labels=np.array([0, 1]),
    )
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    return Golden(image=image, boxes=boxes, conf=0.25, iou=0.7, max_det=300, box_px=1.0, score=0.02)


def a_head(*boxes):
    """A raw output of boxes, each (cx, cy, w, h, score of class 0, score of class 1)."""
    return np.array(boxes, dtype=np.float32).T


FIRST, SECOND = (5, 5, 10, 10, 0.9, 0), (50, 50, 20, 20, 0, 0.3)


@pytest.mark.parametrize(
    ("head", "missing", "unexpected"),
    [
        pytest.param(a_head(FIRST, SECOND), 0, 0, id="the same"),
        pytest.param(a_head((5.5, 5, 10, 10, 0.89, 0), SECOND), 0, 0, id="within the tolerance"),
        pytest.param(a_head((7, 5, 10, 10, 0.9, 0), SECOND), 1, 0, id="a box that moved"),
        pytest.param(a_head((5, 5, 10, 10, 0.8, 0), SECOND), 1, 0, id="a score that changed"),
        pytest.param(a_head((5, 5, 10, 10, 0, 0.9), SECOND), 1, 1, id="another class"),
        pytest.param(a_head(FIRST), 1, 0, id="a box that is missing"),
        pytest.param(a_head(FIRST, SECOND, (30, 30, 8, 8, 0.5, 0)), 0, 1, id="a box of nothing"),
        pytest.param(a_head(FIRST, SECOND, (30, 30, 8, 8, 0.26, 0)), 0, 0, id="a box at the threshold"),
        pytest.param(a_head((0, 0, 0, 0, np.nan, np.nan)), 2, 0, id="not a number"),
    ],
)
def test_boxes_are_compared_within_the_tolerance(head, missing, unexpected):
    found = compare(head, a_golden())
    assert (found.expected, found.missing, found.unexpected) == (2, missing, unexpected)
    assert found.holds == (missing == unexpected == 0)


def test_a_box_at_the_threshold_need_not_be_found():
    assert compare(a_head(FIRST), a_golden(scores=(0.9, 0.26))).holds


def test_a_sample_without_a_sure_box_proves_nothing():
    assert not compare(a_head(FIRST), a_golden(scores=(0.26, 0.26))).holds

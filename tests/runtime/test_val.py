"""`slimdeploy val` on real ONNX files and rendered scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from slimdeploy.cli import app
from slimdeploy.cli.val import as_text, short_names
from slimdeploy.errors import OutputExists
from slimdeploy.lineage import read_run
from slimdeploy.records import Accuracy, Row


@pytest.fixture
def data(tmp_path):
    """Two grey images with a car each, for the classes of the small models."""
    import cv2
    import numpy as np

    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
    for number in range(2):
        cv2.imwrite(str(tmp_path / "images" / "val" / f"{number}.png"), np.full((40, 60, 3), 90, dtype=np.uint8))
        (tmp_path / "labels" / "val" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    text = "val: images/val\nnames: [car, van]\nslimdeploy_rendered: true\n"
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "data.yaml"


def val(*arguments):
    return CliRunner().invoke(app, ["val", *map(str, arguments)])


def test_models_stand_side_by_side(two_models, data):
    result = val(*two_models, "--data", data)
    header, dense, pruned, source, points, *_, note = result.stdout.splitlines()
    names = ["model", "parameters", "MB", "GMACs", "mAP50", "mAP50-95", "points", "precision", "recall"]
    assert header.split() == names
    assert (dense.split()[0], pruned.split()[0]) == ("dense.onnx", "pruned.onnx")
    assert "2 images, 2 boxes" in source
    assert "too few images [" in pruned
    assert points.startswith("points: mAP50-95 more than the first")
    assert "rendered, not photographed" in note


def test_figures_by_size_and_recall_stand_below(two_models, data):
    lines = val(*two_models, "--data", data).stdout.splitlines()
    names, dense = next((line, lines[i + 1]) for i, line in enumerate(lines) if "AP75" in line)
    assert names.split()[:8] == ["model", "AP75", "small", "medium", "large", "AR1", "AR10", "AR"]
    assert dense.split()[3:5] == ["\N{EN DASH}"] * 2  # the cars are 12 by 8 px: none is medium or large


def test_the_most_boxes_that_count_can_be_set(two_models, data):
    assert "AR10" in val(*two_models, "--data", data, "--max-det", "20").stdout
    few = json.loads(val(two_models[0], "--data", data, "--max-det", "5", "--json").stdout)
    assert "ar10" not in few["rows"][0]["accuracy"]["figures"]


def test_classes_stand_side_by_side_where_there_are_several(two_models, data):
    (data.parent / "labels" / "val" / "1.txt").write_text("1 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    lines = val(*two_models, "--data", data).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("AP50-95 by class"))
    assert [line.split()[0] for line in lines[start + 1 : start + 3]] == ["car", "van"]


def test_json_holds_rows_that_a_report_can_take(two_models, data):
    answer = json.loads(val(*two_models, "--data", data, "--json").stdout)
    assert answer["schema"] == 1
    first, second = answer["rows"]
    assert first["macs"] > second["macs"] > 0
    assert first["accuracy"]["rendered"] is True
    assert first["latency"] is None


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_whose_weights_are_whole_and_whose_scores_are_not_is_named(conv_model, data, runtime):
    path = conv_model("overflows")
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(3e38), "factor"))
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(onnx.helper.make_node("Mul", ["raw", "factor"], ["large"]))
    model.graph.node.append(onnx.helper.make_node("Mul", ["large", "factor"], ["output0"]))
    onnx.save(model, path)
    error = val(path, "--data", data, "--backend", runtime).exception
    assert str(error).startswith("overflows.onnx gives NaN or infinity in output0")
    assert error.exit_code == 2


def test_a_model_that_gives_no_numbers_is_named(conv_model, data):
    error = val(conv_model("broken", broken=True), "--data", data).exception
    assert str(error).startswith("broken.onnx gives NaN or infinity")


def test_other_classes_end_it_before_anything_runs(two_models, data):
    data.write_text("val: images/val\nnames: [car, bus]\n", encoding="utf-8")
    error = val(*two_models, "--data", data).exception
    assert "class 1 is 'bus', not 'van'; wanted: the network's classes" in str(error)


def test_files_of_the_same_name_are_told_apart():
    paths = [Path("a/model.onnx"), Path("b/model.onnx"), Path("dense.pt")]
    assert short_names(paths) == [str(paths[0]), str(paths[1]), "dense.pt"]


def test_a_bundle_is_scored_by_the_graph_that_it_holds(two_models, data, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    graph = bundle / two_models[0].name
    graph.write_bytes(two_models[0].read_bytes())
    (bundle / "manifest.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr("slimdeploy.stages.bench.read_manifest", lambda folder: {"model": {"file": graph.name}})
    alone, bundled = (json.loads(val(path, "--data", data, "--json").stdout) for path in (graph, bundle))
    assert alone["rows"][0]["accuracy"] == bundled["rows"][0]["accuracy"]
    assert bundled["rows"][0]["name"] == "bundle"


def test_a_folder_that_is_no_bundle_is_refused(data, tmp_path):
    (tmp_path / "empty").mkdir()
    result = val(tmp_path / "empty", "--data", data)
    assert "is no bundle; wanted: a model file" in str(result.exception)


def test_photographs_get_no_warning():
    accuracy = Accuracy(
        map50=0.5, map50_95=0.25, precision=0.6, recall=0.4, per_class={}, images=2, boxes=3, data="aerial (val)"
    )
    row = Row(
        name="dense.pt", file="dense.pt", format="pt", precision="fp32", parameters=3_000_000, size_bytes=6_200_000,
        macs=4_400_000_000, accuracy=accuracy,
    )  # fmt: skip
    _, figures, source, *_ = as_text([row]).splitlines()
    assert figures.split() == [
        "dense.pt",
        "3,000,000",
        "6.20",
        "4.400",
        "0.500",
        "0.250",
        "\N{EN DASH}",
        "0.600",
        "0.400",
    ]
    assert source == "aerial (val): 2 images, 3 boxes, COCO metric"


def test_a_folder_holds_the_report_its_plots_and_the_images(two_models, data, tmp_path):
    out = tmp_path / "scored"
    result = val(*two_models, "--data", data, "--out", out)
    assert result.stdout.endswith(f"written: {out}\n")
    names = {path.name for path in out.iterdir()}
    assert {"run.json", "bench.json", "report.html", "report.md", "precision.png", "confusion.png"} <= names
    assert sorted(name for name in names if name.endswith(".jpg")) == ["worst-1-0.jpg", "worst-2-1.jpg"]
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert read_run(out)["seconds"] > 0


def test_the_boxes_are_drawn_on_the_images_side_by_side(two_models, data, tmp_path):
    import cv2

    val(*two_models, "--data", data, "--out", tmp_path / "scored")
    picture = cv2.imread(str(tmp_path / "scored" / "worst-1-0.jpg"))
    assert picture.shape == (40, 60 + 8 + 60, 3)
    blue, green, red = picture[16, 24:37].astype(int).mean(axis=0)  # the upper edge of the car that was missed
    assert min(green, red) - blue > 50


def test_compare_and_gate_read_the_folder(two_models, data, tmp_path):
    val(*two_models, "--data", data, "--out", tmp_path / "scored")
    assert CliRunner().invoke(app, ["compare", str(tmp_path / "scored")]).exit_code == 0
    assert CliRunner().invoke(app, ["gate", str(tmp_path / "scored"), "--min-map", "0"]).exit_code == 0


def test_the_official_protocol_draws_no_curve_of_another(two_models, data, tmp_path):
    (data.parent / "annotations" / "val").mkdir(parents=True)
    for number in range(2):
        (data.parent / "annotations" / "val" / f"{number}.txt").write_text("24,16,12,8,1,4,0,0\n", encoding="utf-8")
    result = val(*two_models, "--data", data, "--protocol", "visdrone", "--out", tmp_path / "scored")
    assert result.exit_code == 0
    assert (tmp_path / "scored" / "confusion.png").exists()
    assert not (tmp_path / "scored" / "precision.png").exists()
    assert not (tmp_path / "scored" / "matches.npz").exists()  # they are COCO's


def test_a_folder_that_exists_is_refused_before_anything_runs(two_models, data, tmp_path):
    assert isinstance(val(*two_models, "--data", data, "--out", tmp_path).exception, OutputExists)

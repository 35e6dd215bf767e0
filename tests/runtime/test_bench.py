"""Models are timed in processes of their own, and the results are whole or not there."""

from __future__ import annotations

import base64
import json
import logging
import shutil

import cv2
import numpy as np
import onnx
import pytest

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.bench.measure import measure
from slimdeploy.bench.process import Worker
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import ArtifactError, DataError, DeviceError, MissingDependency, OutputExists, UsageError
from slimdeploy.lineage import read_run
from slimdeploy.records import as_json
from slimdeploy.report.build import report_from
from slimdeploy.stages.bench import bench, find_models

QUICK = BenchConfig(samples=14, rounds=7, threads=1, warmup_limit_s=0.3, timeout_s=60)
HEAVY = {"torch", "ultralytics", "torch_pruning", "cv2", "matplotlib", "onnx"}


def opened(path, worker: Worker) -> dict:
    request = {"backend": "", "trust": False, "threads": 1, "batch": 1, "seed": 0}
    return worker.ask("open", artifact=as_json(read_artifact(path)), **request)


@pytest.fixture
def artifacts(two_models):
    return [(path.stem, read_artifact(path)) for path in two_models]


@pytest.fixture(scope="module")
def results(two_models, tmp_path_factory):
    """Bench two models once, and return the folder."""
    out = tmp_path_factory.mktemp("bench") / "out"
    bench(find_models(two_models), QUICK, out)
    return out


@pytest.fixture(scope="module")
def measured(results):
    return [row.latency for row in report_from([results]).rows]


def test_every_sample_is_kept_in_its_round(measured):
    assert [one.artifact for one in measured] == ["dense", "pruned"]
    for one in measured:
        assert len(one.samples_s) == 14
        assert one.rounds == (2,) * 7


def test_load_first_call_and_warm_up_are_kept_apart_from_the_samples(measured):
    assert measured[0].load_s > 0
    assert measured[0].first_s > 0
    assert len(measured[0].warmup_s) >= 3


def test_the_measurement_says_where_it_was_taken(measured):
    assert (measured[0].backend, measured[0].threads, measured[0].scope) == ("onnxruntime", 1, "inference")
    assert measured[0].environment["versions"]["onnxruntime"] == measured[0].environment["runtime_version"]


def test_the_results_hold_a_row_a_model_and_the_stages_record(results):
    rows = json.loads((results / "bench.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["name"], row["file"]) for row in rows] == [("dense", "dense.onnx"), ("pruned", "pruned.onnx")]
    assert rows[0]["parameters"] > rows[1]["parameters"]
    assert rows[0]["accuracy"] is None
    assert read_run(results)["stage"] == "bench"


def test_progress_names_each_model(artifacts, caplog):
    with caplog.at_level(logging.INFO, logger="slimdeploy.bench"):
        measure(artifacts[:1], QUICK)
    assert "warming up dense in onnxruntime" in caplog.messages


def test_a_worker_loads_its_runtime_and_neither_torch_nor_ultralytics(conv_model):
    with Worker("model", threads=1, timeout_s=60) as worker:
        assert opened(conv_model(), worker)["backend"] == "onnxruntime"
        worker.ask("sample", count=1)
        modules = set(worker.ask("status")["modules"])
    assert "onnxruntime" in modules
    assert not HEAVY & modules


def test_a_model_that_gives_nan_is_refused(conv_model):
    broken = read_artifact(conv_model("broken", broken=True))
    with pytest.raises(ArtifactError, match=r"broken\.onnx gives NaN"):
        measure([("broken", broken)], QUICK)


def test_a_model_of_another_layout_is_refused_before_it_is_timed(conv_model):
    path = conv_model("turned")
    model = onnx.load(path)
    turned = onnx.helper.make_node("Transpose", ["raw"], ["output0"], perm=[0, 2, 1])
    model.graph.node[-1].output[0] = "raw"
    model.graph.node.append(turned)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"turned\.onnx gives an output of shape \(1, 1024, 6\).*raw head"):
        measure([("turned", read_artifact(path))], QUICK)


def test_a_file_that_was_damaged_since_is_refused(conv_model):
    path = conv_model()
    artifact = read_artifact(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="cannot be opened"):
        measure([("model", artifact)], QUICK)


def test_a_backend_that_does_not_exist_is_refused(artifacts):
    with pytest.raises(UsageError, match="tflite"):
        measure(artifacts, QUICK, backend="tflite")


def test_a_worker_that_dies_in_the_middle_ends_the_others(artifacts, monkeypatch):
    workers = []

    class Dying(Worker):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            workers.append(self)

        def ask(self, do, **request):
            if do == "sample" and self.name == "pruned":
                self._process.kill()
            return super().ask(do, **request)

    monkeypatch.setattr("slimdeploy.bench.measure.Worker", Dying)
    with pytest.raises(DeviceError, match="the worker process of pruned died"):
        measure(artifacts, QUICK)
    assert len(workers) == 2
    assert all(worker._process.poll() is not None for worker in workers)


def test_an_output_that_exists_is_left_alone(conv_model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExists):
        bench(find_models([conv_model()]), QUICK, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_failed_bench_leaves_no_folder(conv_model, tmp_path):
    with pytest.raises(ArtifactError):
        bench(find_models([conv_model("good"), conv_model("broken", broken=True)]), QUICK, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_openvino_is_measured_like_any_other(artifacts):
    try:
        (one,) = measure(artifacts[:1], QUICK, backend="openvino")
    except MissingDependency:
        pytest.skip("the extra openvino is not installed")
    assert one.backend == "openvino"


@pytest.fixture
def command_line(monkeypatch, capsys, tmp_path):
    """Run `slimdeploy` with arguments in an empty folder, and return its exit code, stdout and stderr."""
    from slimdeploy import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["slimdeploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_verb_prints_json_and_names_a_folder_of_its_own(command_line, two_models, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="slimdeploy.bench"):
        code, said, _ = command_line("bench", two_models[0], "--samples", 10, "--threads", 1, "--json")
    assert code == 0
    (folder,) = tmp_path.glob("bench-*Z")
    assert json.loads(said)["out"] == folder.name
    assert f"results go to {folder.name}" in caplog.messages


def test_the_verb_refuses_a_missing_model_with_exit_code_2(command_line, tmp_path):
    code, said, told = command_line("bench", "missing.onnx", "--out", "out")
    assert (code, said) == (2, "")
    assert told.startswith("slimdeploy: no model at missing.onnx")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Write a data set of two images with the models' classes, and return its YAML."""
    folder = tmp_path_factory.mktemp("labelled")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((32, 32, 3), 90, dtype=np.uint8))
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n", encoding="utf-8")
    path = folder / "data.yaml"
    path.write_text("val: images\nnames: [car, van]\n", encoding="utf-8")
    return path


def test_with_data_each_row_holds_accuracy(two_models, labelled, tmp_path):
    bench(find_models(two_models), QUICK, tmp_path / "out", data=labelled)
    for row in report_from([tmp_path / "out"]).rows:
        assert (row.accuracy.images, row.accuracy.boxes) == (2, 2)


@pytest.fixture(scope="module")
def scored(two_models, labelled, tmp_path_factory):
    """Two runs of the same two models on the same images."""
    folders = [tmp_path_factory.mktemp("scored") / name for name in ("one", "two")]
    for folder in folders:
        bench(find_models(two_models), QUICK, folder, data=labelled)
    return folders


def test_rows_after_the_first_tell_how_their_accuracy_differs(scored):
    first, second = report_from([scored[0]]).rows
    assert first.difference is None
    assert second.difference.images == 2


def test_the_bench_keeps_what_its_accuracy_rests_on(scored):
    found = report_from([scored[0]]).evaluation
    assert set(found.precision) == set(found.confusion) == {"dense", "pruned"}
    assert sum(found.confusion["dense"][0]) == 2  # both cars, found or missed
    assert found.judged == "pruned"
    for scene in found.scenes:
        assert scene.size == (32, 32)
        assert base64.b64decode(scene.jpeg).startswith(b"\xff\xd8")
        assert set(scene.seen) == {"dense", "pruned"}
    assert {scene.file for scene in found.scenes} == {"a.png", "b.png"}


def test_rows_of_another_run_differ_from_the_first_row_of_all(scored):
    rows = report_from(scored).rows
    assert [row.difference is None for row in rows] == [True, False, False, False]
    assert rows[2].difference.points == 0  # the same model on the same images
    assert rows[3].difference == rows[1].difference


def test_a_run_of_an_older_version_without_matches_still_opens(scored, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(scored[0], old)
    (old / "matches.npz").unlink()
    results = json.loads((old / "bench.json").read_text(encoding="utf-8"))
    for row in results["rows"]:
        del row["difference"]
    (old / "bench.json").write_text(json.dumps(results), encoding="utf-8")
    assert [row.difference for row in report_from([old]).rows] == [None, None]
    assert [row.difference for row in report_from([old, scored[1]]).rows] == [None] * 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(
            lambda images, labels: labels[0].write_text("0 0.5\n", encoding="utf-8"), "four shares", id="a row"
        ),
        pytest.param(lambda images, labels: images[0].write_bytes(b"no image"), "is no image", id="an image"),
        pytest.param(lambda images, labels: [one.write_text("") for one in labels], "has no labels", id="no labels"),
    ],
)
def test_damaged_data_is_refused_before_anything_is_timed(two_models, labelled, tmp_path, monkeypatch, damage, said):
    copy = shutil.copytree(labelled.parent, tmp_path / "copy")
    damage(sorted(copy.rglob("*.jpg")) + sorted(copy.rglob("*.png")), sorted(copy.rglob("labels/**/*.txt")))
    monkeypatch.setattr("slimdeploy.bench.measure.Worker", None)
    with pytest.raises(DataError, match=said):
        bench(find_models(two_models), QUICK, tmp_path / "out", data=copy / labelled.name)
    assert not (tmp_path / "out").exists()


def test_data_of_other_classes_is_refused_before_anything_is_timed(two_models, labelled, tmp_path, monkeypatch):
    other = labelled.with_name("other.yaml")
    other.write_text("val: images\nnames: [car, tree]\n", encoding="utf-8")
    monkeypatch.setattr("slimdeploy.bench.measure.Worker", None)
    with pytest.raises(DataError, match=r"class 1 is 'tree', not 'van'"):
        bench(find_models(two_models), QUICK, tmp_path / "out", data=other)

"""Records that were damaged or made up are refused in one line that names the file, whichever of them is read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fuzzing import seeds
from synthetic_runs import write_recipe_run

from slimdeploy.accuracy.matches import load
from slimdeploy.board.bundle import read_bundle
from slimdeploy.board.errors import AgentError
from slimdeploy.bundle.manifest import read_manifest
from slimdeploy.errors import ArtifactError, UsageError
from slimdeploy.latency.table import read_table
from slimdeploy.lineage import read_run
from slimdeploy.report.build import report_from
from slimdeploy.search.folder import open_folder
from slimdeploy.search.spec import read_spec
from slimdeploy.stages.plan import read_plan

INFINITY = float("inf")


def put(document, path, value):
    """Put a value into a JSON document, or take one away where it is `...`."""
    *way, last = path
    for key in way:
        document = document[key]
    if value is ...:
        del document[last]
    else:
        document[last] = value


def damaged(raw, path, value):
    document = json.loads(raw)
    put(document, path, value)
    return json.dumps(document)


def refused(read, kind=UsageError):
    with pytest.raises(kind) as caught:
        read()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("imgsz",), [INFINITY, 64]), (("imgsz",), 5), (("imgsz",), [1.5, 64]), (("groups",), 5), (("groups",), ["x"]),
        (("groups", 0, "kept"), [-1, 2]), (("groups", 0, "kept"), [INFINITY]), (("groups", 0, "width"), "x"),
        (("groups", 0, "layers"), [5]), (("kept_whole",), [5]), (("parameters",), [1, 2, 3]), (("macs",), ["a", "b"]),
        (("asked",), "x"), (("asked",), float("nan")), (("budget",), []), (("budget",), "time"), (("alignment",), 0),
        (("latency",), 5), (("latency", "planned_ms"), [0, 0]), (("latency", "measured_ms"), "x"),
        (("sensitivities",), [{}]), (("whole",), {"groups": 5}), (("reached",), 10**400), (("criterion",), 5),
        (("schema",), True), (("schema",), 10**400), (("weights_sha256",), ...),
    ],
)  # fmt: skip
def test_a_damaged_plan_is_refused(tmp_path, path, value):
    (tmp_path / "plan.json").write_text(damaged(seeds.plan()[1], path, value), encoding="utf-8")
    assert "plan.json" in refused(lambda: read_plan(tmp_path / "plan.json"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("layers",), ["x"]), (("layers",), []), (("layers",), 5), (("layers", 0, "times"), ["x"]),
        (("layers", 0, "times"), []), (("layers", 0, "times", 0), [8, 8, 0, 0, 9]), (("layers", 0, "kernel"), "x"),
        (("layers", 0, "times", 0), [8, 8, INFINITY, 0, 9]), (("wholes",), []), (("wholes",), [5]),
        (("wholes", 0, "measured_ms"), 0), (("imgsz",), [INFINITY, 64]), (("imgsz",), [0, 64]), (("threads",), "x"),
        (("environment",), 5), (("target",), 5), (("unknown",), 5), (("backend",), ...),
    ],
)  # fmt: skip
def test_a_damaged_latency_table_is_refused(tmp_path, path, value):
    (tmp_path / "table.json").write_text(damaged(seeds.table()[0], path, value), encoding="utf-8")
    assert "table.json is no latency table" in refused(lambda: read_table(tmp_path / "table.json"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("stage",), ...), (("stage",), 5), (("inputs",), 5), (("inputs", "weights"), 5), (("seconds",), "x"),
        (("seconds",), INFINITY), (("results",), []), (("config",), "x"), (("outputs",), [5]), (("versions",), None),
    ],
)  # fmt: skip
def test_a_damaged_run_record_is_refused(tmp_path, path, value):
    (tmp_path / "run.json").write_text(damaged(seeds.run_record()[0], path, value), encoding="utf-8")
    assert f"run.json is damaged: {path[0]}" in refused(lambda: read_run(tmp_path))


def test_a_run_record_of_an_older_version_reads_with_what_it_left_out_empty(tmp_path):
    (tmp_path / "run.json").write_text('{"schema": 1, "stage": "bench"}', encoding="utf-8")
    record = read_run(tmp_path)
    assert (record["inputs"], record["outputs"], record["seconds"]) == ({}, {}, 0.0)


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("bench/bench.json", ("rows",), 5), ("bench/bench.json", ("rows",), ["x"]),
        ("bench/bench.json", ("rows", 0, "latency"), 5),
        ("bench/bench.json", ("rows", 0, "latency", "samples_s"), ["x"]),
        ("bench/bench.json", ("rows", 0, "latency", "rounds"), [1]), ("bench/bench.json", ("rows", 0, "macs"), 1e400),
        ("bench/bench.json", ("rows", 0, "accuracy", "per_class"), [1]), ("bench/bench.json", ("rows", 0, "power"), 5),
        ("bench/bench.json", ("rows", 0, "accuracy", "map50_95"), 10**400),
        ("bench/evaluation.json", ("confusion",), 5), ("bench/evaluation.json", ("classes",), [[]]),
        ("bench/evaluation.json", ("scenes", 0, "size"), [INFINITY, 1]),
        ("prune/plan.json", ("groups",), 5), ("prune/plan.json", ("groups", 0, "width"), INFINITY),
        ("prune/run.json", ("results", "latency"), 5), ("prune/run.json", ("results", "sensitivities"), [{}]),
        ("prune/run.json", ("results", "fit"), {"layers": []}), ("prune/run.json", ("stage",), ...),
        ("sparsify/run.json", ("results", "history"), ["x"]), ("sparsify/run.json", ("results", "scale_edges"), ["x"]),
        ("sparsify/run.json", ("results", "history", 0, "scale_histogram"), [1]),
    ],
)  # fmt: skip
def test_a_report_of_a_damaged_run_is_refused_with_the_files_name(tmp_path, file, path, value):
    run = write_recipe_run(tmp_path / "run")
    (run / file).write_text(damaged((run / file).read_text(encoding="utf-8"), path, value), encoding="utf-8")
    assert file in refused(lambda: report_from([run])).replace("\\", "/")


def test_a_flipped_bit_in_matches_is_refused(tmp_path):
    raw, path = seeds.matches()[0], tmp_path / "matches.npz"
    start = raw.index(b"PK", 4) - 40  # in the compressed data of the first array
    path.write_bytes(raw[:start] + bytes([raw[start] ^ 4]) + raw[start + 1 :])
    assert "matches.npz is damaged" in refused(lambda: load(path))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("0/labels", np.zeros(3, np.int16)), ("0/image", np.zeros((20, 2), np.int32)),
        ("0/image", np.full(20, 99, np.int32)),
        ("0/scores", np.full(20, np.nan, np.float32)), ("0/objects", np.zeros(4, np.int32)),
        ("0/objects", np.full((4, 2), -1, np.int32)), ("0/hits", np.zeros(20, np.float64)), ("names", np.zeros(2)),
        ("names", np.array(["dense", "dense"])), ("0/truths", np.zeros(3)),
    ],
)  # fmt: skip
def test_matches_whose_arrays_do_not_fit_are_refused(tmp_path, name, array):
    (tmp_path / "whole.npz").write_bytes(seeds.matches()[0])
    with np.load(tmp_path / "whole.npz") as stored:
        arrays = dict(stored)
    np.savez_compressed(tmp_path / "matches.npz", **(arrays | {name: array}))
    assert "matches.npz is damaged" in refused(lambda: load(tmp_path / "matches.npz"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("graphs",), 5), (("graphs",), [{}]), (("graphs",), [5]), (("recommendation",), 5), (("model",), []),
        (("target",), 5), (("model", "classes"), ["a\nb", "c"]), (("model", "classes"), ["\x1b[31m"]),
        (("model", "classes"), ["a\u202eb"]), (("model", "classes"), ["car", "car"]), (("input", "shape"), [1, 3]),
        (("model", "file"), "model.onnx\n"),
    ],
)  # fmt: skip
def test_a_damaged_manifest_is_refused_on_the_host_and_on_the_board(tmp_path, path, value):
    (tmp_path / "manifest.json").write_text(damaged(seeds.manifest()[0], path, value), encoding="utf-8")
    refused(lambda: read_manifest(tmp_path), ArtifactError)
    if path != ("model", "file"):  # what it names is looked for among the bundle's files there
        refused(lambda: read_bundle(tmp_path), AgentError)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('objectives = ["map50_95", "p50_ms"]', "objectives = [{}]"), ("imgsz = [256, 320]", '"a.b" = [1, 2]'),
        ('recipe = "recipe.toml"', r'recipe = "a\u0000b"'), ("max_p50_ms = 30", f"max_p50_ms = {10**400}"),
        ("low = 0.1,", f"low = {10**400},"), ("imgsz = [256, 320]", "imgsz = [nan, 320]"),
        ("imgsz = [256, 320]", "imgsz = [1979-05-27, 320]"), ('recipe = "recipe.toml"', "recipe = 5"),
        ('title = "search"', "title = [1]"), ("trials = 4", "trials = inf"), ("imgsz = [256, 320]", "x.y = [1]"),
    ],
)  # fmt: skip
def test_a_search_that_makes_no_sense_is_refused(tmp_path, old, new):
    text = seeds.SEARCH.decode()
    assert old in text
    (tmp_path / "recipe.toml").write_bytes(seeds.RECIPE)
    (tmp_path / "search.toml").write_text(text.replace(old, new), encoding="utf-8")
    assert "search.toml" in refused(lambda: read_spec(tmp_path / "search.toml"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("search",), 5),
        (("recipe",), []),
        (("place",), 5),
        (("id",), ...),
        (("cache",), None),
        (("recipe", "prune"), 5),
    ],
)
def test_a_damaged_search_folder_is_refused(tmp_path, path, value):
    (tmp_path / "search.json").write_text(damaged(seeds.search_folder()[0], path, value), encoding="utf-8")
    assert "search.json is damaged" in refused(lambda: open_folder(tmp_path))

"""Tables beside the main one: whole frames, a camera's rate, energy, and where the time of a call goes."""

import pytest
from synthetic_runs import accuracy, end_to_end, layers, measurement, offered, power, row

from slimdeploy.records import Report
from slimdeploy.report.cells import NOT_MEASURED
from slimdeploy.report.grids import frame_grids
from slimdeploy.report.layer_grids import layer_grids
from slimdeploy.report.layer_plots import by_module
from slimdeploy.report.markdown import as_markdown


def report(*rows):
    return Report(title="t", rows=rows)


def texts(grid, place=0):
    return {key: cell.text for key, cell in grid.lines[place].items()}


def whole(name, bare_s, whole_s):
    return row(
        name, scored=accuracy(0.5), latency=measurement(name, bare_s), end_to_end=end_to_end(name, whole_s),
        offered=offered(), power=(power(),),
    )  # fmt: skip


def test_what_was_not_measured_has_no_table():
    bare = report(row("dense", latency=measurement("dense", 0.02)))
    assert frame_grids(bare) == layer_grids(bare) == []
    assert "Time by" not in as_markdown(bare)


def test_whole_frames_stand_with_their_size_and_what_the_session_alone_does_not_take():
    (grid, *_) = frame_grids(report(whole("dense", 0.0200, 0.0230), whole("tuned", 0.0100, 0.0115)))
    first, second = texts(grid), texts(grid, 1)
    assert first["frames"] == "640x360"
    assert float(first["around_ms"]) == pytest.approx(3.0, abs=0.5)
    assert first["speedup"] == "1"
    assert second["speedup"].startswith("2.0")
    assert "[" in second["speedup"]


def test_whole_frames_without_the_bare_session_tell_no_difference_from_it():
    (grid,) = frame_grids(report(row("dense", end_to_end=end_to_end("dense", 0.02))))
    assert texts(grid)["around_ms"] == NOT_MEASURED


def test_a_model_whose_worker_died_has_no_line():
    (grid, *_) = frame_grids(report(row("dead"), whole("tuned", 0.01, 0.011)))
    assert [line["name"].text for line in grid.lines] == ["tuned"]
    assert texts(grid)["speedup"] == NOT_MEASURED  # nothing to be compared with


def test_frames_at_a_camera_s_rate_are_counted():
    grid = frame_grids(report(whole("dense", 0.02, 0.023)))[1]
    assert {key: texts(grid)[key] for key in ("fps", "frames", "dropped", "late", "p50_ms", "p99_ms")} == {
        "fps": "30", "frames": "100", "dropped": "3", "late": "7", "p50_ms": "20.0", "p99_ms": "60.0",
    }  # fmt: skip


def test_every_meter_has_a_line_of_its_own_with_its_rails():
    grid = frame_grids(report(row("dense", power=(power(), power(meter="nvml")))))[0]
    assert [(line["meter"].text, line["rails"].text, line["joules"].text) for line in grid.lines] == [
        ("jetson", "VDD_IN", "0.0500"), ("nvml", "VDD_IN", "0.0500"),
    ]  # fmt: skip


def test_operators_stand_with_their_share_the_largest_first():
    operators, _ = layer_grids(report(row("dense", layers=layers()), row("tuned", layers=layers(0.5))))
    assert [line["operator"].text for line in operators.lines] == ["Conv", "Mul", "Reorder"]
    assert texts(operators)["layers-0"] == "2"
    assert texts(operators)["ms-0"] == "9.000"
    assert texts(operators)["share-0"] == "85.7"
    assert texts(operators)["ms-1"] == "4.500"


def test_layers_of_two_models_stand_side_by_side_with_their_widths():
    _, grid = layer_grids(report(row("dense", layers=layers()), row("tuned", layers=layers(0.5, width=32))))
    by_name = {line["layer"].text: line for line in grid.lines}
    assert next(iter(by_name)) == "/model.22/cv2.0/Conv"  # the slowest
    first = by_name["/model.0/conv/Conv"]
    assert (first["width-0"].text, first["width-1"].text) == ("64", "32")
    assert (first["ms-0"].text, first["ms-1"].text) == ("4.000", "2.000")
    assert by_name["Reorder_7"]["width-0"].text == NOT_MEASURED


def test_a_layer_that_one_model_lacks_has_a_dash_there():
    _, grid = layer_grids(report(row("dense", layers=layers()), row("tuned", layers=layers()[:3])))
    line = next(line for line in grid.lines if line["layer"].text == "Reorder_7")
    assert (line["ms-0"].text, line["ms-1"].text) == ("0.500", NOT_MEASURED)


def test_layers_are_shown_of_the_headline_s_models_alone():
    rows = [row(name, layers=layers()) for name in ("dense", "pruned", "tuned", "tuned-fp16")]
    _, grid = layer_grids(report(*rows))
    assert [column.title for column in grid.columns[2:]] == [
        "dense ms", "dense %", "dense channels", "tuned ms", "tuned %", "tuned channels",
    ]  # fmt: skip


def test_a_module_s_time_is_told_by_the_layers_names():
    assert by_module(layers()) == pytest.approx({0: 0.005, 22: 0.005})


def test_markdown_cuts_a_long_table_and_says_so():
    many = tuple(layers(1 / (i + 1))[0] for i in range(40))
    named = tuple(type(one)(name=f"l{i}", operator="Conv", seconds=one.seconds, width=8) for i, one in enumerate(many))
    text = as_markdown(report(row("dense", layers=named)))
    assert "10 further lines are in the page." in text
    assert "| l29 |" in text
    assert "| l30 |" not in text

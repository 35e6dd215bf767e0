"""The table's cells."""

from synthetic_runs import accuracy, measurement, row, whole_rows

from slimdeploy.records import Report
from slimdeploy.report.cells import COLUMNS, NOT_MEASURED, label, table


def cells(*rows):
    return table(Report(title="Synthetic", rows=tuple(rows)))


def test_every_row_fills_every_column():
    keys = {column.key for column in COLUMNS}
    assert all(set(one) == keys for one in cells(*whole_rows()))


def test_what_was_not_measured_is_a_dash_and_sorts_as_nothing():
    (only,) = cells(row("dense", macs=0))
    for key in ("map50", "map50_95", "precision", "recall", "p50_ms", "p99_ms", "images_per_s", "speedup", "gmacs"):
        assert (only[key].text, only[key].value) == (NOT_MEASURED, None), key


def test_a_score_of_zero_that_was_measured_is_shown():
    (only,) = cells(row("pruned", scored=accuracy(0.0)))
    assert only["map50_95"].text == "0.000"


def test_figures_carry_three_digits_and_their_unit_is_in_the_heading():
    (only,) = cells(row("dense", parameters=3_011_043, latency=measurement("dense", 0.1)))
    assert (only["parameters"].text, only["size_mb"].text, only["gmacs"].text) == ("3,011,043", "12.0", "4.22")
    assert only["p50_ms"].text == "104"


def test_the_first_timed_row_is_the_measure_of_the_others():
    first, second = cells(*(row(n, latency=measurement(n, s)) for n, s in (("dense", 0.1), ("tuned", 0.05))))
    assert first["speedup"].text == "1"
    assert second["speedup"].text.startswith("2.00 [")


def test_a_difference_that_is_not_shown_is_not_given_as_one():
    _, second = cells(*(row(name, latency=measurement(name, 0.05)) for name in ("dense", "tuned")))
    assert second["speedup"].text.startswith("no difference shown [")


def test_too_few_rounds_are_not_called_a_missing_difference():
    timed = [measurement(name, s, rounds=2) for name, s in (("dense", 0.1), ("tuned", 0.05))]
    _, second = cells(*(row(one.artifact, latency=one) for one in timed))
    assert second["speedup"].text.startswith("too few rounds [")


def test_a_name_cannot_steer_the_terminal():
    assert label("a\x1b[31mb\nc") == r"a\x1b[31mb\nc"

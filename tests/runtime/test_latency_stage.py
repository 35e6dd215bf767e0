"""A latency table that was stopped, or that two processes measure, is complete in the end or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimdeploy._alone import LOCK, alone_at
from slimdeploy._leftovers import beside
from slimdeploy.configs import LatencyConfig, PruneConfig
from slimdeploy.errors import OutputExists, TargetError, UsageError
from slimdeploy.stages import latency as stage
from slimdeploy.stages.decide import Means, require_forecast
from slimdeploy.targets import load_target


@pytest.fixture
def measured(monkeypatch):
    """Put a table in place of measuring; the list tells what was asked for."""
    asked: list[Path] = []

    def measure(_weights, _target, _config, out, **_options):
        asked.append(out)
        stage._progress_of(out).write_text("samples", encoding="utf-8")

    monkeypatch.setattr(stage, "require", lambda _extra: None)
    monkeypatch.setattr(stage, "_measure", measure)
    monkeypatch.setattr(stage, "write_table", lambda _table, out: out.write_text("table", encoding="utf-8"))
    return asked


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def measure(out: Path, **options) -> Path:
    return stage.latency(None, load_target("cpu"), LatencyConfig(), out, **options)


def test_a_table_leaves_nothing_beside_it(measured, tmp_path):
    measure(tmp_path / "table.json")
    assert names(tmp_path) == ["table.json"]


def test_what_a_process_left_that_was_killed_after_its_table_is_removed(measured, tmp_path):
    (tmp_path / "table.json").touch()
    (tmp_path / ".table.json.progress").touch()
    with pytest.raises(OutputExists):
        measure(tmp_path / "table.json")
    assert names(tmp_path) == ["table.json"]


def test_a_board_keeps_its_samples_also_where_the_process_was_killed_after_its_table(measured, tmp_path):
    (tmp_path / "table.json").touch()
    (tmp_path / ".table.json.progress").touch()
    with pytest.raises(OutputExists):
        measure(tmp_path / "table.json", board=object())
    assert names(tmp_path) == ["table.json", "table.samples.jsonl"]


def test_while_another_process_measures_the_same_table_that_is_what_is_said(measured, tmp_path):
    out = tmp_path / "table.json"
    with (
        alone_at(beside(out, LOCK), wait_s=0.0, busy=lambda: UsageError("")),
        pytest.raises(UsageError, match=r"another process measures .*table\.json now"),
    ):
        measure(out)
    assert measured == []


def test_without_a_table_or_a_model_of_the_board_no_network_is_needed_to_say_so():
    config = PruneConfig(speedup=2.0, channels=None)
    with pytest.raises(TargetError, match="no latency table was given for the target cpu"):
        require_forecast(config, Means(target=load_target("cpu")))
    with pytest.raises(UsageError, match="a speedup without a target"):
        require_forecast(config, Means())
    with pytest.raises(UsageError, match="no latency table at"):
        require_forecast(config, Means(target=load_target("cpu"), table=Path("missing.json")))


def test_a_share_needs_no_table():
    require_forecast(PruneConfig(channels=0.5), Means())

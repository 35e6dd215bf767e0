"""What `slimdeploy bench` measures beside the bare session, and what it does when a worker fails."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from slimdeploy import cli
from slimdeploy.accuracy.detector import Detector
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench.measure import measure_all
from slimdeploy.bench.process import Worker
from slimdeploy.board.letterbox import letterbox
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import DeviceError
from slimdeploy.records import ModelSpec
from slimdeploy.report.build import report_from
from slimdeploy.report.terminal import as_text
from slimdeploy.stages.bench import bench, find_models

QUICK = BenchConfig(samples=14, rounds=7, threads=1, warmup_limit_s=0.2, timeout_s=60)
ALL = BenchConfig(
    samples=7, rounds=7, threads=1, warmup_limit_s=0.2, end_to_end=True, fps=200, offered_s=0.1, profile=True
)


@pytest.fixture(scope="module")
def everything(two_models, tmp_path_factory):
    """Measure all that can be asked for, once, and return the folder."""
    out = tmp_path_factory.mktemp("everything") / "out"
    bench(find_models(two_models), ALL, out)
    return out


def test_both_scopes_are_named_and_have_their_own_samples(everything):
    for row in report_from([everything]).rows:
        assert (row.latency.scope, row.end_to_end.scope) == ("inference", "end to end")
        assert len(row.end_to_end.samples_s) == 7
        assert row.end_to_end.environment["frame_size_px"] == [32, 32]
        assert row.end_to_end.first_s > 0
        assert "frame_size_px" not in row.latency.environment


def test_every_frame_offered_is_looked_at_or_dropped(everything):
    for row in report_from([everything]).rows:
        assert row.offered.frames == 20
        assert len(row.offered.latency_s) + row.offered.dropped == 20
        assert row.offered.late == sum(one > 1 / 200 for one in row.offered.latency_s)


def test_the_profile_names_the_layers_with_their_time(everything):
    for row in report_from([everything]).rows:
        assert sum(layer.seconds for layer in row.layers) > 0
        assert any("Conv" in layer.operator for layer in row.layers)


def test_the_text_tells_each_kind_of_measurement_under_its_name(everything):
    said = as_text(report_from([everything]))
    assert "End to end, from decoded frame to final boxes:" in said
    assert "20 frames at 200 a second" in said
    assert "Time by layer, from the runtime's own profiler:" in said


def test_a_duration_is_kept_in_place_of_a_number_of_samples(two_models):
    config = BenchConfig(duration_s=0.7, rounds=7, threads=1, warmup_limit_s=0.2)
    (one,) = measure_all([("dense", read_artifact(two_models[0]))], config)
    assert sum(one.latency.samples_s) > 0.5
    assert len(one.latency.rounds) == 7


def test_what_was_not_asked_for_is_absent(two_models):
    (one,) = measure_all([("dense", read_artifact(two_models[0]))], QUICK)
    assert (one.end_to_end, one.offered, one.layers, one.failed) == (None, None, (), None)


class Failing(Worker):
    """A worker whose process is killed or stopped at the third turn of `pruned`."""

    how = "kill"

    def ask(self, do, **request):
        self.turns = getattr(self, "turns", 0) + (do == "sample")
        if self.name == "pruned" and self.turns == 3:
            self._timeout_s = 0.5
            if self.how == "kill":
                self._process.kill()
            else:
                import signal

                self._process.send_signal(signal.SIGSTOP)
        return super().ask(do, **request)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kill", "died with"),
        pytest.param(
            "hang", "gave no answer to 'sample'",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="nothing stops a process there"),
        ),
    ],
)  # fmt: skip
def test_a_worker_that_fails_costs_its_own_figures_alone_and_the_report_says_so(
    how, said, two_models, tmp_path, monkeypatch
):
    monkeypatch.setattr(Failing, "how", how)
    monkeypatch.setattr("slimdeploy.bench.measure.Worker", Failing)
    bench(find_models(two_models), QUICK, tmp_path / "out")
    report = report_from([tmp_path / "out"])
    assert [row.latency is None for row in report.rows] == [False, True]
    assert len(report.rows[0].latency.samples_s) == 14
    assert any(note.startswith("pruned has no figures") and said in note for note in report.notes)
    assert "pruned has no figures" in " ".join(as_text(report).split())


def test_where_every_worker_fails_the_measurement_does(two_models, monkeypatch):
    class AllFail(Failing):
        def ask(self, do, **request):
            self._process.kill()
            return super().ask(do, **request)

    monkeypatch.setattr("slimdeploy.bench.measure.Worker", AllFail)
    with pytest.raises(DeviceError, match="died"):
        measure_all([(path.stem, read_artifact(path)) for path in two_models], QUICK)


@pytest.fixture
def command_line(monkeypatch, capsys, tmp_path):
    """Run `slimdeploy bench` with arguments in an empty folder; return its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["slimdeploy", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--samples", 10, "--duration", 5), "--samples and --duration together"),
        (("--duration", 5, "--rigorous"), "--duration and --rigorous together"),
        (("--duration", 0), "--duration of 0 s"),
        (("--fps", -1), "-1.0 frames a second"),
    ],
)
def test_contradicting_or_impossible_settings_are_refused(flags, said, command_line, two_models, tmp_path):
    code, _, told = command_line(two_models[0], *flags, "--out", "out")
    assert code == 2
    assert said in told
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_without_a_profiler_is_refused_by_name(two_models, monkeypatch):
    from slimdeploy.bench.layers import layer_times
    from slimdeploy.errors import UsageError

    class Npu:
        name = "npu"

    with pytest.raises(UsageError, match="npu has no profiler"):
        layer_times(Npu(), None, {}, threads=1, calls=1)


def test_json_holds_every_measurement(command_line, two_models):
    code, said, _ = command_line(
        two_models[0], "--samples", 10, "--threads", 1, "--end-to-end", "--profile", "--json", "--out", "out"
    )
    assert code == 0
    (row,) = json.loads(said)["rows"]
    assert len(row["end_to_end"]["samples_s"]) == 10
    assert row["layers"][0]["seconds"] > 0


class Fixed:
    """A session whose head holds one box in the middle of the input."""

    def run(self, feeds):
        head = np.zeros((1, 6, 4), dtype=np.float32)
        head[0, :, 0] = 32, 32, 16, 8, 0.9, 0.1
        return {"output0": head}

    def close(self):
        pass


def test_a_detector_gives_boxes_in_the_pixels_of_the_frame():
    detect = Detector(Fixed(), ModelSpec(task="detect", classes=("a", "b"), imgsz=(64, 64)))
    (found,) = detect([np.zeros((128, 256, 3), dtype=np.uint8)])
    assert found.xyxy.tolist() == [[96, 48, 160, 80]]
    assert (found.scores.tolist(), found.labels.tolist()) == ([pytest.approx(0.9)], [0])


def test_a_detector_sees_the_same_input_as_the_letterbox_makes_even_after_another_shape(conv_model):
    artifact = read_artifact(conv_model())
    session = backend_for(artifact).open(artifact, threads=1)
    seen = []

    class Watching:
        def run(self, feeds):
            seen.append(feeds["images"].copy())
            return session.run(feeds)

    detect = Detector(Watching(), artifact.spec)
    frames = [np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8) for i, size in
              enumerate([(32, 32), (20, 40), (40, 20)])]  # fmt: skip
    for frame in frames:
        detect([frame])
    for frame, given in zip(frames, seen, strict=True):
        assert np.array_equal(given[0], letterbox(frame, artifact.spec.imgsz)[0])

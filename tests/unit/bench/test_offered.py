"""A camera that does not wait, on a clock that tests can turn."""

from __future__ import annotations

import pytest

from slimdeploy.bench.offered import offer


class Clock:
    """Time passes only when somebody sleeps or works."""

    now_s = 100.0

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def offered(takes_s, *, fps=10.0, duration_s=1.0):
    """Offer frames to work of these lengths, in order; return latencies, drops and frames looked at."""
    clock, seen = Clock(), []
    lengths = iter(takes_s)

    def work(number):
        seen.append(number)
        clock.now_s += next(lengths)

    latencies_s, dropped = offer(work, fps=fps, duration_s=duration_s, clock=clock, sleep=clock.sleep)
    return latencies_s, dropped, seen


def test_a_quick_detector_looks_at_every_frame_and_waits_for_the_next():
    latencies_s, dropped, seen = offered([0.02] * 10)
    assert latencies_s == pytest.approx([0.02] * 10)
    assert (dropped, seen) == (0, list(range(10)))


def test_a_slow_detector_takes_the_newest_frame_and_the_older_ones_are_dropped():
    latencies_s, dropped, seen = offered([0.25] * 10)
    assert seen == [0, 2, 5, 7, 9]
    assert dropped == 5
    assert latencies_s[1] == pytest.approx(0.30)  # captured at 0.2, begun at 0.25, done at 0.5


def test_latency_counts_from_the_capture_and_not_from_the_begin_of_the_work():
    latencies_s, dropped, _ = offered([0.14, 0.02, 0.02], duration_s=0.3)
    assert latencies_s == pytest.approx([0.14, 0.06, 0.02])
    assert dropped == 0


def test_one_slow_frame_costs_only_those_captured_meanwhile():
    _, dropped, seen = offered([0.02, 0.35, *[0.02] * 8])
    assert seen == [0, 1, 4, 5, 6, 7, 8, 9]
    assert dropped == 2


def test_frames_after_the_end_are_neither_looked_at_nor_dropped():
    latencies_s, dropped, seen = offered([5.0], duration_s=0.1)
    assert (len(latencies_s), dropped, seen) == (1, 0, [0])

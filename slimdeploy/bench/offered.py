"""A camera that does not wait: frames come at its rate, and one that the detector has no time for is lost."""

from __future__ import annotations

import time
from collections.abc import Callable


def offer(
    work: Callable[[int], object],
    *,
    fps: float,
    duration_s: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[float], int]:
    """Offer frames at a fixed rate, and keep from each that is looked at the time from its capture to its result.

    Whoever is done takes the newest frame; those captured before it that nobody looked at are dropped, as by a
    camera's driver with one buffer.

    Args:
        work: looks at the frame of this number, and returns when its result is there.
        fps: frames that the camera captures a second.
        duration_s: for how long it captures, in seconds.
        clock: tells the time, in seconds.
        sleep: waits, in seconds.

    Returns:
        Seconds from capture to result of each frame that was looked at, and how many were dropped.
    """
    frames = max(1, round(fps * duration_s))
    latencies_s: list[float] = []
    dropped = done = 0  # `done`: frames looked at or dropped
    started = clock()
    while done < frames:
        due_s = started + done / fps
        if (early_s := due_s - clock()) > 0:
            sleep(early_s)
        captured = int((clock() - started) * fps)  # the newest frame; rounding must not put it before the one due
        newest = min(max(captured, done), frames - 1)
        dropped += newest - done
        work(newest)
        latencies_s.append(clock() - (started + newest / fps))
        done = newest + 1
    return latencies_s, dropped

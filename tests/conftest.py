"""Tests that run side by side share out the cores, since torch in each would take all of them."""

from __future__ import annotations

import os


def pytest_configure(config):
    worker = getattr(config, "workerinput", None)  # of pytest-xdist; there is none where tests run one by one
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    own, count = int(worker["workerid"].removeprefix("gw")), int(worker["workercount"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[own::count] or cores)

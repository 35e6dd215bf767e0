"""The cores that this process may use can be limited for a while."""

from __future__ import annotations

import os

from slimdeploy._cores import LIMIT, limited_cores, usable_cores


def test_a_limit_counts_while_it_is_set(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv(LIMIT, raising=False)
    with limited_cores(3):
        assert usable_cores() == 3
        with limited_cores(1):
            assert usable_cores() == 1
        assert usable_cores() == 3
        with limited_cores(0):
            assert usable_cores() == 3
    assert usable_cores() == 8


def test_a_limit_above_what_there_is_changes_nothing(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    with limited_cores(9):
        assert usable_cores() == 2

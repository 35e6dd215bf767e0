"""A search measures on a board through ssh, once for each bundle and board."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from slimdeploy.configs import BenchConfig
from slimdeploy.search.cache import Cache
from slimdeploy.search.keys import key_of
from slimdeploy.search.trial import board_step, on_board

RECIPE = SimpleNamespace(bench=BenchConfig(samples=12, rounds=6))


def test_the_figures_of_a_trial_come_from_the_board_and_are_kept(make_board, make_bundle, tmp_path):
    board, bundle, told = make_board(), make_bundle(b"one"), []
    cache = Cache(root=tmp_path / "cache", tell=told.append, device=board.address)
    figures = on_board(cache.keep(board_step(RECIPE, bundle, board.address)))
    assert figures["p50_ms"] > 0
    assert figures["joules"] == pytest.approx(5.0 * figures["p50_ms"] / 1000)  # 5 W, as the stand-in agent says
    cache.keep(board_step(RECIPE, bundle, board.address))
    assert [step["hit"] for step in cache.steps] == [False, True]


def test_another_board_is_another_measurement(make_bundle):
    bundle = make_bundle(b"one")
    one, other = (board_step(RECIPE, bundle, f"ssh://pilot@drone-{number}") for number in (1, 2))
    assert key_of(one) != key_of(other)

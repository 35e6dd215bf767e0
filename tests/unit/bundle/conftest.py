"""A small bundle, as `slimdeploy export` writes it, without a network in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_bundle import write_small_bundle


@pytest.fixture
def small_bundle(tmp_path) -> Path:
    return write_small_bundle(tmp_path / "bundle")

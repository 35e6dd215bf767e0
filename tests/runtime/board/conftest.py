"""Bundles for the agent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bright_detector import write_bright_bundle


@pytest.fixture(scope="session")
def whole_bundle(tmp_path_factory) -> Path:
    """A whole bundle that no test changes."""
    return write_bright_bundle(tmp_path_factory.mktemp("bright") / "bundle")


@pytest.fixture
def bundle(whole_bundle, tmp_path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(whole_bundle, tmp_path / "bundle"))

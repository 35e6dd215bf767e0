"""A system that brings bundles to boards by itself uses the agent's own verbs, and gets the same guarantees."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import pytest

from slimdeploy.bundle.agent import write_agent


@pytest.fixture
def agent(tmp_path):
    """Run a verb of the real agent; gives (exit code, its JSON)."""
    write_agent(tmp_path / "agent.pyz")
    root = tmp_path / "flight"

    def run(verb, bundle=None, *more):
        where = ["--bundle", str(bundle)] if bundle else []
        command = [sys.executable, str(tmp_path / "agent.pyz"), verb, *where, "--root", str(root), "--json", *more]
        ended = subprocess.run(command, capture_output=True, text=True)
        return ended.returncode, json.loads(ended.stdout)

    return run


def test_a_bundle_on_the_board_is_received_activated_and_rolled_back(agent, make_bundle):
    names = []
    for model in (b"old", b"new"):
        code, received = agent("receive", make_bundle(model))
        assert code == 0, received
        names.append(received["release"])
        assert agent("activate", make_bundle(model, name=f"again-{model.decode()}"))[0] == 0
    assert agent("status")[1]["current"] == names[1]
    assert agent("rollback")[1]["current"] == names[0]
    assert agent("prune", None, "--keep", "0")[1]["removed"] == [names[1]]


def test_what_was_not_received_is_not_activated(agent, make_bundle):
    code, told = agent("activate", make_bundle(b"new"))
    assert (code, "the board has no release" in told["wrong"]) == (4, True)


def test_the_agent_holds_all_that_a_ship_runs_on_a_board(tmp_path):
    write_agent(tmp_path / "agent.pyz")
    names = zipfile.ZipFile(tmp_path / "agent.pyz").namelist()
    assert {f"slimdeploy/board/{name}.py" for name in ("session", "stage", "release", "whole")} <= set(names)

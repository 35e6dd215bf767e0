"""A search on a real Ray cluster of two nodes, both on the loopback interface."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import search_stand_in
from search_stand_in import made, order, write_search

import slimdeploy
from slimdeploy.errors import DeviceError, UsageError
from slimdeploy.search import run
from slimdeploy.search.ray_engine import MEASURE
from slimdeploy.search.trial import DONE, FAILED

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its children's pipes to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
DRIVE = """
from pathlib import Path
from slimdeploy.search import run
run.start(Path({path!r}), Path({out!r}), run.Options(walk={walk!r}, engine="ray", address={address!r}))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head, which measures, and a second node, with one CPU each."""
    from ray.cluster_utils import Cluster

    log = tmp_path_factory.mktemp("log")
    paths = [str(Path(slimdeploy.__file__).parents[1]), str(Path(search_stand_in.__file__).parent)]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as short:  # a socket's path is 107 bytes
        patch.setenv("STAND_IN_LOG", str(log))
        patch.setenv("STAND_IN_SECONDS", "0.2")
        patch.setenv("TMPDIR", short)  # where workers lock the machine
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        made = Cluster(initialize_head=True, head_node_args={**NODE, "resources": {MEASURE: 1}})
        made.add_node(**NODE)
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def _no_faults(cluster):
    for path in search_stand_in.log_folder().iterdir():
        path.unlink()


@pytest.fixture
def search(cluster, tmp_path):
    """Search on the cluster with stand-ins; gives the View in the end."""

    def search(name="out", *, options=None, **written):
        path = write_search(tmp_path, **written)
        asked = {"engine": "ray", "address": cluster.address, **(options or {})}
        return run.start(path, tmp_path / name, run.Options(walk=search_stand_in.WALK, **asked))

    return search


def figures(view):
    return [(one.number, dict(one.values), dict(one.figures)) for one in view.records]


def nothing_twice() -> bool:
    keys = [one["key"] for one in made()]
    return len(keys) == len(set(keys))


def test_the_same_seed_gives_what_it_gives_on_one_machine(search):
    here = search("here", trials=8, options={"engine": "local", "address": ""})
    search_stand_in.log_folder().joinpath("made.log").unlink()
    there = search("there", trials=8)
    assert figures(there) == figures(here)
    assert nothing_twice()
    assert len({one["pid"] for one in made() if one["stage"] == "finetune"}) >= 2


def test_nothing_is_trained_beside_a_measurement(search):
    search(trials=6)
    done = made()
    for one in [one for one in done if one["stage"] == "bench"]:
        assert [o for o in done if o is not one and o["began"] < one["ended"] and one["began"] < o["ended"]] == []


def test_a_worker_that_is_killed_has_its_leg_walked_again(search):
    fault = order("kill", "finetune", 1)
    view = search(trials=4)
    assert not fault.exists()
    assert [one.state for one in view.records] == [DONE] * 4
    assert nothing_twice()


def test_a_full_disk_on_one_node_has_the_trial_walked_on_another(search):
    fault = order("fullonce", "finetune", 1)
    view = search(trials=4)
    assert not fault.exists()
    assert [one.state for one in view.records] == [DONE] * 4


def test_a_trial_that_hangs_is_ended_at_its_limit_and_others_go_on(search):
    order("hang", "finetune", 1)
    view = search(trials=3, sections="[trial]\nminutes = 0.1")
    assert [one.state for one in view.records] == [DONE, FAILED, DONE]
    assert "was ended in finetune" in view.records[1].why


def test_machines_that_share_a_url_alone_make_nothing_twice(search, tmp_path):
    store = tmp_path / "store"
    view = search(trials=6, options={"cache": f"file://{store}"})
    assert [one.state for one in view.records] == [DONE] * 6
    assert nothing_twice()
    assert {path.parent.name for path in store.rglob("*.tar")} == {"train", "finetune", "bench"}
    from slimdeploy.search.best import best

    chosen = best(tmp_path / "out", tmp_path / "best", {})
    assert (tmp_path / "best" / "bundle" / "made.json").exists()
    assert chosen.state == DONE


def test_a_node_that_is_lost_takes_no_trial_with_it(cluster, search):
    import threading

    lost = next(node for node in cluster.worker_nodes)

    def lose():
        while len(made()) < 4:
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        view = search(trials=8)
    finally:
        thread.join()
        cluster.add_node(**NODE)
    assert [one.state for one in view.records] == [DONE] * 8
    assert nothing_twice()


def test_a_driver_that_was_killed_goes_on(cluster, search, tmp_path):
    unbroken = search("unbroken", trials=6)
    search_stand_in.log_folder().joinpath("made.log").unlink()
    code = DRIVE.format(
        path=str(tmp_path / "search.toml"), out=str(tmp_path / "out"), walk=search_stand_in.WALK,
        address=cluster.address,
    )  # fmt: skip
    driver = subprocess.Popen([sys.executable, "-c", code])
    while len(made()) < 5:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(3)  # Ray ends what the driver left
    options = run.Options(walk=search_stand_in.WALK, engine="ray", address=cluster.address)
    view = run.go_on(tmp_path / "out", options)
    assert figures(view) == figures(unbroken)
    assert nothing_twice()


def test_a_node_with_another_torch_is_refused_and_both_versions_are_told(cluster, search, tmp_path):
    about = tmp_path / "other" / "torch-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n", encoding="utf-8")
    path = os.pathsep.join([str(about.parent), os.environ["PYTHONPATH"]])
    other = cluster.add_node(**NODE, env_vars={"PYTHONPATH": path})
    try:
        with pytest.raises(UsageError, match=r"has torch 0\.1, and this one \d"):
            search(trials=2)
    finally:
        cluster.remove_node(other)
    assert made() == []


def test_a_trial_that_no_node_can_hold_is_refused(search):
    with pytest.raises(UsageError, match="no node has 64 CPUs"):
        search(trials=2, sections="[trial]\ncpus = 64")


@pytest.mark.parametrize(
    ("address", "error"),
    [
        pytest.param("127.0.0.1:1", DeviceError, id="nothing listens"),
        pytest.param("nowhere", UsageError, id="no address"),
    ],
)
def test_an_address_that_does_not_answer_is_told_within_seconds(search, address, error):
    with pytest.raises(error, match=r"Ray cluster"):
        search(trials=2, options={"address": address})


def test_a_search_that_was_refused_can_be_begun_again(search, tmp_path):
    with pytest.raises(DeviceError):
        search(trials=2, options={"address": "127.0.0.1:1"})
    assert not (tmp_path / "out").exists()
    assert len(search(trials=2).records) == 2

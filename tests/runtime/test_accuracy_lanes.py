"""Images stream through several sessions at once, and nobody can tell from the results."""

from __future__ import annotations

import threading
import time

import pytest

from slimdeploy.accuracy import lanes
from slimdeploy.accuracy.lanes import in_order, open_lanes
from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.errors import DataError


class Watched:
    """A session that notices when two threads use it at once."""

    def __init__(self):
        self.users = 0
        self.shared = False

    def run(self, feeds):
        self.users += 1
        self.shared |= self.users > 1
        time.sleep(0.001)
        self.users -= 1
        return feeds

    def close(self):
        pass


def through(sessions, pieces, work=None):
    def asking(piece, lend):
        with lend() as session:
            return session.run(piece)

    return list(in_order(pieces, sessions, work or asking))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_work_whatever_ends_first(count):
    def slow_at_first(piece, lend):
        time.sleep(0.02 if piece == 0 else 0.0)
        return piece

    assert through([Watched() for _ in range(count)], range(40), slow_at_first) == list(range(40))


def test_no_session_is_ever_used_by_two_threads():
    sessions = [Watched(), Watched()]
    through(sessions, range(40))
    assert [session.shared for session in sessions] == [False, False]


def test_two_sessions_work_at_the_same_time():
    both = threading.Barrier(2, timeout=10)

    def meet(piece, lend):
        with lend():
            return both.wait()

    assert sorted(through([Watched(), Watched()], range(2), meet)) == [0, 1]


def test_reading_goes_on_beside_a_single_session():
    read = threading.Barrier(2, timeout=10)

    def work(piece, lend):
        read.wait()  # needs two threads that have no session
        with lend() as session:
            return session.run(piece)

    assert through([Watched()], range(4), work) == [0, 1, 2, 3]


def test_an_error_comes_out_at_the_turn_of_its_piece_and_the_session_is_given_back():
    def fails(piece, lend):
        with lend() as session:
            if piece == 3:
                raise DataError("piece 3 is damaged")
            return session.run(piece)

    taken = []
    with pytest.raises(DataError, match="piece 3"):
        taken.extend(in_order(range(20), [Watched()], fails))
    assert taken == [0, 1, 2]


def test_work_is_begun_only_a_little_ahead(monkeypatch):
    begun = []
    results = in_order(range(1000), [Watched()], lambda piece, lend: begun.append(piece))
    next(results)
    time.sleep(0.05)
    assert len(begun) <= lanes.AHEAD + 2
    results.close()


@pytest.mark.parametrize(("parallel", "cores", "expected"), [(True, 4, 4), (True, 64, 8), (False, 4, 1), (None, 4, 1)])
def test_a_runtime_that_gains_from_it_gets_a_session_a_core(parallel, cores, expected, monkeypatch):
    asked = []

    class Runtime:
        def open(self, artifact, *, threads):
            asked.append(threads)
            return Watched()

    if parallel is not None:
        Runtime.parallel = parallel
    monkeypatch.setattr(lanes, "usable_cores", lambda: cores)
    with open_lanes(Runtime(), None) as sessions:
        assert len(sessions) == expected
    assert asked == [cores // expected] * expected


def test_sessions_are_closed_even_if_one_does_not_open(conv_model, monkeypatch):
    closed = []

    class Failing:
        parallel = True

        def open(self, artifact, *, threads):
            if closed == [] and not hasattr(self, "first"):
                self.first = Watched()
                self.first.close = lambda: closed.append(1)
                return self.first
            raise DataError("no second one")

    monkeypatch.setattr(lanes, "usable_cores", lambda: 2)
    with pytest.raises(DataError, match="second"), open_lanes(Failing(), None):
        pass
    assert closed == [1]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_runtime_gives_the_same_outputs_from_each_of_its_sessions(name, conv_model, monkeypatch):
    import numpy as np

    if name == "openvino":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    artifact = read_artifact(conv_model())
    backend = backend_for(artifact, name)
    monkeypatch.setattr(lanes, "usable_cores", lambda: 2)
    images = np.random.default_rng(0).random((12, 1, 3, 32, 32), dtype=np.float32)
    alone = backend.open(artifact, threads=1)
    with open_lanes(backend, artifact) as sessions:
        assert len(sessions) == 2
        found = through(sessions, [{"images": one} for one in images])
    for one, outputs in zip(images, found, strict=True):
        assert np.allclose(outputs["output0"], alone.run({"images": one})["output0"], atol=1e-5)


def test_a_runtime_whose_sessions_share_the_weights_is_opened_once(monkeypatch):
    asked, closed = [], []

    class Sharing:
        parallel = True

        def open_several(self, artifact, *, count, threads):
            asked.append((count, threads))
            made = [Watched() for _ in range(count)]
            for session in made:
                session.close = lambda: closed.append(1)
            return made

    monkeypatch.setattr(lanes, "usable_cores", lambda: 6)
    with open_lanes(Sharing(), None) as sessions:
        assert len(sessions) == 6
    assert (asked, closed) == ([(6, 1)], [1] * 6)

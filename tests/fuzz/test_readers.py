"""A few seconds of benchmarks/fuzz_readers.py: no reader fails in a foreign way, hangs or writes outside its folder.

Hypothesis draws the mutations, so that what fails is made small before it is shown.
"""

from __future__ import annotations

import tempfile

import pytest
from fuzzing.mutations import mutate
from fuzzing.oracle import Watch, judge
from fuzzing.readers import READERS, clear
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW = ("checkpoint", "allowed_signers", "report: ")
EXAMPLES = {True: 4, False: 30}  # by whether a reader is slow
HERE = [one for one in READERS if not one.name.startswith("page: ")]  # each page takes a second to draw
NEVER_READ = ("allowed_signers",)  # its seed's signature is none
FIXED = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)


@pytest.fixture(scope="module")
def watch():
    return Watch()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The folder that a reader's input lies in, and the one for temporary files."""
    for name in ("work", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "work", tmp_path / "tmp"


def outcome_of(reader, raw, watch, folders):
    clear(folders[0])
    watch.programs = reader.programs
    return judge(lambda: reader.read(raw, folders[0]), watch=watch, inside=folders, limit_s=120.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", [one for one in HERE if one.name not in NEVER_READ], ids=lambda one: one.name)
def test_the_inputs_that_are_changed_are_read_as_they_are(reader, watch, folders):
    for raw in reader.seeds():
        outcome = outcome_of(reader, raw, watch, folders)
        assert outcome.kind == "read", outcome.detail


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", HERE, ids=lambda one: one.name)
def test_whatever_comes_is_read_or_refused_in_one_line(reader, watch, folders):
    seeds = reader.seeds()
    outcome_of(reader, seeds[0], watch, folders)  # what it imports is no input's doing

    @settings(FIXED, max_examples=EXAMPLES[reader.name.startswith(SLOW)])
    @given(chance=st.randoms(use_true_random=False), number=st.integers(0, len(seeds) - 1))
    def fuzz(chance, number):
        raw = mutate(seeds[number], reader.kinds, chance)
        outcome = outcome_of(reader, raw, watch, folders)
        assert outcome.kind in ("read", "refused"), f"{outcome.kind}: {outcome.detail}; the input: {raw[:300]!r}"

    fuzz()

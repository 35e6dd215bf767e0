"""A checkpoint runs as it is: the same numbers as its network, with BatchNorm folded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slimdeploy.backends.artifacts import read_artifact
from slimdeploy.backends.registry import backend_for
from slimdeploy.bench.measure import measure
from slimdeploy.configs import BenchConfig
from slimdeploy.errors import ArtifactError
from slimdeploy.yolo import checkpoint


@pytest.fixture
def session(tiny_weights):
    artifact = read_artifact(tiny_weights, imgsz=(64, 64))
    backend = backend_for(artifact)
    assert backend.name == "pytorch"
    opened = backend.open(artifact, threads=1)
    yield opened
    opened.close()


def test_folding_changes_no_output(session, tiny_weights):
    images = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    module, _ = checkpoint.load(tiny_weights)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images))[0].numpy()
    found = session.run({"images": images})["output0"]
    assert found.shape == (2, 4 + 2, 84)
    assert np.abs(found - expected).max() < 1e-2  # pixels, of boxes up to 64 wide


def test_an_input_that_is_no_multiple_of_the_stride_is_refused(session):
    with pytest.raises(ArtifactError, match="does not run in PyTorch"):
        session.run({"images": np.zeros((1, 3, 50, 50), dtype=np.float32)})


def test_a_checkpoint_is_measured_in_batches_as_told(tiny_weights):
    config = BenchConfig(samples=3, rounds=3, threads=1, batch=2, warmup_limit_s=0.2)
    (one,) = measure([("dense", read_artifact(tiny_weights, imgsz=(64, 64)))], config)
    assert (one.backend, one.batch, len(one.samples_s)) == ("pytorch", 2, 3)

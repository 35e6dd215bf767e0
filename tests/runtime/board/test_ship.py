"""A real bundle is shipped with its real agent, which builds, checks and runs it in ONNX Runtime on this machine."""

from __future__ import annotations

import json
import sys

import pytest

from slimdeploy.bundle.manifest import read_manifest
from slimdeploy.configs import ShipConfig
from slimdeploy.devices.address import parse_address
from slimdeploy.errors import DeviceError
from slimdeploy.lineage import sha256_file
from slimdeploy.stages.ship import ship

CONFIG = ShipConfig(python=sys.executable)  # which has ONNX Runtime


def test_a_real_bundle_is_built_and_checked_before_it_flies(bundle, tmp_path):
    done = ship(bundle, parse_address(f"local:{tmp_path / 'flight'}"), CONFIG)
    assert done["check"]["expected"] >= 1
    assert read_manifest(tmp_path / "flight" / "current" / "bundle") == read_manifest(bundle)


def test_a_real_bundle_whose_golden_sample_fails_does_not_fly(bundle, tmp_path):
    path = bundle / "golden" / "expected.json"
    golden = json.loads(path.read_text(encoding="utf-8"))
    golden["xyxy"][0] = [0.0, 0.0, 1.0, 1.0]
    path.write_text(json.dumps(golden), encoding="utf-8")
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["golden/expected.json"] = {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
    (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (bundle / "run.json").unlink(missing_ok=True)
    with pytest.raises(DeviceError, match="the golden sample fails"):
        ship(bundle, parse_address(f"local:{tmp_path / 'flight'}"), CONFIG)
    assert not (tmp_path / "flight" / "current").exists()

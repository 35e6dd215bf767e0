"""A real bundle is shipped with its real agent, which builds, checks and runs it in ONNX Runtime on this machine."""

from __future__ import annotations

import json
import sys

import pytest
from bright_detector import write_bright_bundle
from simulated_board import write_board

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


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        pytest.param({"p90_ms": 1e-6}, "check failed: p90_ms is", id="too slow"),
        pytest.param({"power_mw": 5499}, "check failed: power_mw is 5500", id="draws too much"),
    ],
)
def test_a_bundle_that_exceeds_its_limits_is_refused_and_the_release_before_stays(
    bundle, tmp_path, monkeypatch, limits, says
):
    monkeypatch.setenv("SLIMDEPLOY_BOARD_ROOT", str(write_board(tmp_path / "system")))  # whose rails tell 5500 mW
    address = parse_address(f"local:{tmp_path / 'flight'}")
    ship(bundle, address, CONFIG)
    with pytest.raises(DeviceError, match=says) as refused:
        ship(write_bright_bundle(tmp_path / "limited", limits=limits), address, CONFIG)
    assert refused.value.exit_code == 4
    assert read_manifest(tmp_path / "flight" / "current" / "bundle") == read_manifest(bundle)


def test_a_bundle_within_its_limits_flies(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMDEPLOY_BOARD_ROOT", str(write_board(tmp_path / "system")))
    limited = write_bright_bundle(tmp_path / "limited", limits={"p90_ms": 60_000, "power_mw": 5501})
    done = ship(limited, parse_address(f"local:{tmp_path / 'flight'}"), CONFIG)
    assert (done["simulated"], done["check"]["power_mw"]) == (True, 5500)

"""Which widths are worth measuring."""

from __future__ import annotations

import dataclasses

import pytest
from synthetic_coupling import chain

from slimdeploy.latency.shapes import Kind, axis, changeable, kind_of, to_measure


def test_a_layer_that_no_plan_changes_is_not_measured():
    names = [layer.name for layer in changeable(chain())]
    assert names == ["stem", "cv1[0]", "cv1[1]", "cv2", "out"]
    unread = chain().groups[:3]
    coupling = chain()
    narrowed = type(coupling)(imgsz=coupling.imgsz, layers=coupling.layers, groups=unread, kept_whole=())
    assert "out" not in [layer.name for layer in changeable(narrowed)]


def test_a_kind_holds_kernel_stride_and_output_size():
    assert kind_of(chain().layers[0], (64, 64)) == Kind(kernel=3, stride=2, height=32, width=32)


def test_a_kind_of_an_oblong_input_has_an_oblong_output():
    layer = chain().layers[0]
    oblong = type(layer)(name="a", outputs=8, inputs=8, kernel=9, positions=20 * 12, scalars_per_output=2)
    assert kind_of(oblong, (320, 192)) == Kind(kernel=3, stride=1, height=20, width=12)


@pytest.mark.parametrize("alignment", [1, 8, 32])
def test_widths_to_measure_are_aligned_or_the_dense_ones(alignment):
    found = axis([48, 100, 500], alignment)
    assert [width for width in found if width % alignment and width not in (48, 100, 500)] == []
    assert {48, 100, 500} <= set(found)
    assert max(found) == 500


def test_widths_to_measure_are_dense_where_channels_are_few():
    assert axis([256], 8)[:8] == (8, 16, 24, 32, 40, 48, 56, 64)
    assert len(axis([256], 8)) < 16


def test_no_widths_are_measured_that_no_layer_can_have():
    wanted = to_measure(chain(), 8)
    (widths,) = [w for kind, w in wanted.items() if kind.kernel == 3 and kind.stride == 1]
    assert max(widths) == (32, 64)
    assert [w for w in widths if w[0] > 32 or w[1] > 64] == []


def test_a_layer_of_another_form_is_of_another_kind():
    ordinary = chain().layers[1]
    depthwise = dataclasses.replace(ordinary, kind="depthwise", inputs=1)
    assert kind_of(depthwise, (64, 64)) != kind_of(ordinary, (64, 64))
    assert str(kind_of(depthwise, (64, 64))).startswith("depthwise 1x1")


def test_a_layer_that_runs_in_training_alone_is_not_measured():
    coupling = chain()
    idle = dataclasses.replace(coupling.layers[3], positions=0)
    without = dataclasses.replace(coupling, layers=(*coupling.layers[:3], idle, coupling.layers[4]))
    assert "cv2" not in [layer.name for layer in changeable(without)]

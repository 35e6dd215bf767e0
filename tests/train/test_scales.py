"""The stock scales below a network's own."""

from __future__ import annotations

import pytest
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from slimdeploy.yolo import scales


def stock(architecture, kind=DetectionModel, task="detect"):
    module = kind(architecture, nc=2, verbose=False)
    module.task = task
    return module


def test_smaller_scales_come_from_the_largest_to_the_smallest():
    names, modules = zip(*scales.smaller_scales(stock("yolov8m.yaml")), strict=True)
    assert names == ("yolov8s", "yolov8n")
    sizes = [sum(weight.numel() for weight in module.parameters()) for module in modules]
    assert sizes[0] > sizes[1]
    assert all(module.model[-1].nc == 2 for module in modules)


def test_a_scale_of_another_task_keeps_its_task():
    ((name, module),) = scales.smaller_scales(stock("yolo11s-seg.yaml", SegmentationModel, "segment"))
    assert (name, module.task) == ("yolo11n-seg", "segment")


@pytest.mark.parametrize(
    "description",
    [
        pytest.param(None, id="no description"),
        pytest.param({"yaml_file": "yolov8n.yaml"}, id="the smallest scale"),
        pytest.param({"yaml_file": "mine.yaml"}, id="a name of no family"),
        pytest.param({"yaml_file": 5, "backbone": [["os.system", "x"]]}, id="a name that is no text"),
    ],
)
def test_where_no_smaller_scale_is_known_there_is_none(description):
    module = stock("yolov8n.yaml")
    module.yaml = description
    assert list(scales.smaller_scales(module)) == []

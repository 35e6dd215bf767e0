"""ROS 2: parameters and a launch file for isaac_ros_yolov8, which its own launch file does not pass all of.

Its decoder is written for 640x640 pixels: it reads 8400 anchors whatever the tensor says, and counts 80 classes unless
it is told, so another size is refused here and the number of classes is told.

Source: github.com/NVIDIA-ISAAC-ROS/isaac_ros_object_detection, release-4.4, dbbb2505.
"""

from __future__ import annotations

from pathlib import Path

from slimdeploy.backends.protocol import INPUT, OUTPUT
from slimdeploy.bundle.dropin import Model, write_text

SIDE = 640
ANCHORS = 8400


def refusal(model: Model) -> str:
    """Return why isaac_ros_yolov8 cannot run a model, or ""."""
    if model.imgsz != (SIDE, SIDE):
        shown = "x".join(str(side) for side in model.imgsz)
        return f"isaac_ros_yolov8 reads {ANCHORS} anchors, those of {SIDE}x{SIDE} pixels, and the input is {shown}"
    if model.anchors != ANCHORS:
        return f"isaac_ros_yolov8 reads {ANCHORS} anchors, and this network's head gives {model.anchors}"
    if model.batch != 1 or model.dynamic_batch:
        return "isaac_ros_yolov8 takes one image a call"
    return ""


def write(model: Model, folder: Path) -> None:
    """Write `yolov8.yaml` and `yolov8.launch.py`."""
    write_text(folder / "yolov8.yaml", parameters(model))
    write_text(folder / "yolov8.launch.py", _LAUNCH)


def parameters(model: Model) -> str:
    """Return the parameters of both nodes, a ROS 2 parameter file."""
    return f"""\
tensor_rt:
  ros__parameters:
    model_file_path: ../{model.path.name}
    engine_file_path: ../model.plan
    input_tensor_names: [input_tensor]
    input_binding_names: [{INPUT}]
    output_tensor_names: [output_tensor]
    output_binding_names: [{OUTPUT}]
    force_engine_update: false
    verbose: false
yolov8_decoder_node:
  ros__parameters:
    tensor_name: output_tensor
    confidence_threshold: 0.25
    nms_threshold: 0.45
    num_classes: {len(model.classes)}
"""


_LAUNCH = '''\
"""Start TensorRT and YOLOv8's decoder: ros2 launch yolov8.launch.py. Tensors come in on /tensor_pub, which
isaac_ros_dnn_image_encoder publishes (640x640, mean 0, deviation 1); boxes go out on /detections_output."""

from pathlib import Path

import yaml
from launch import LaunchDescription
from launch_ros.actions import ComposableNodeContainer
from launch_ros.descriptions import ComposableNode

HERE = Path(__file__).resolve().parent


def parameters(node):
    found = yaml.safe_load((HERE / "yolov8.yaml").read_text())[node]["ros__parameters"]
    paths = {key: str((HERE / value).resolve()) for key, value in found.items() if key.endswith("_file_path")}
    return [{**found, **paths}]


def generate_launch_description():
    tensor_rt = ComposableNode(
        name="tensor_rt",
        package="isaac_ros_tensor_rt",
        plugin="nvidia::isaac_ros::dnn_inference::TensorRTNode",
        parameters=parameters("tensor_rt"),
    )
    decoder = ComposableNode(
        name="yolov8_decoder_node",
        package="isaac_ros_yolov8",
        plugin="nvidia::isaac_ros::yolov8::YoloV8DecoderNode",
        parameters=parameters("yolov8_decoder_node"),
    )
    container = ComposableNodeContainer(
        name="yolov8_container",
        package="rclcpp_components",
        executable="component_container_mt",
        namespace="",
        composable_node_descriptions=[tensor_rt, decoder],
        output="screen",
    )
    return LaunchDescription([container])
'''
